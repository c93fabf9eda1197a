"""Commands of the later dialect taken apart; without I/O.

Owns how parameters stand in a text. ``message=`` is the last one and takes all that follows, as it is. A
text parameter (``metadata``) goes on until the next one begins. A parameter that a command does not know is
passed over, as the original broker does; one given twice is the last. Whatever else is in the text is
refused, for it would be lost without a word.

Invariant: the result has every parameter of the command, of the kind that its table says.
"""

from __future__ import annotations

import re
from typing import Any, Final

from megabroker.protocols.cursus.later.refusals import Refusal, quoted
from megabroker.protocols.cursus.later.words import Kind, Parameter, Word

__all__ = ["MAX_HEAD_BYTES", "MAX_OFFSETS", "given", "parse"]

MAX_HEAD_BYTES: Final = 64 * 1024
"""Longest command without its message."""

MAX_OFFSETS: Final = 1000
"""Most pairs of one command."""

_LONGEST_NAME_BYTES = 32_767

_rest = re.compile(rb"(?:^|(?<=\s))message=").search
_REST_BYTES: Final = len(b"message=")
_tokens = re.compile(rb"\S+").finditer
_pair = re.compile(rb"([A-Za-z_][A-Za-z0-9_]*)=").match
_offset_pair = re.compile(r"P([0-9]{1,10}):([0-9]{1,19})", re.ASCII).fullmatch
_number = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII).fullmatch
_FLAGS = {"true": True, "false": False}


def parse(word: Word, text: bytes) -> dict[str, Any]:
    """Return a command's parameters by their names.

    Args:
        text: what follows the command word.

    Raises:
        Refusal: a parameter is missing or wrong, or the text is none of parameters.
    """
    found = given(word, text)
    values: dict[str, Any] = {}
    for parameter in word.parameters:
        raw = next((found[name] for name in (parameter.name, *parameter.also) if found.get(name)), None)
        if raw is None:
            if parameter.required:
                code = parameter.missing or f"missing_{parameter.name}"
                raise Refusal(code, command=word.name, expected=quoted(word.syntax))
            values[parameter.name] = parameter.default
        else:
            values[parameter.name] = _value(word, parameter, raw)
    return values


def given(word: Word, text: bytes) -> dict[str, bytes]:
    """Return what is given, by name, as it is.

    Raises:
        Refusal: the text is none of parameters, or too long.
    """
    kinds = {name: one.kind for one in word.parameters for name in (one.name, *one.also)}
    values: dict[str, bytes] = {}
    # A message begins within what its parameters may take, and is not looked for in all of a long frame.
    if "message" in kinds and (message := _rest(text, 0, MAX_HEAD_BYTES + _REST_BYTES)):
        values["message"] = text[message.end() :]
        text = text[: message.start()]
    if len(text) > MAX_HEAD_BYTES:
        raise Refusal("malformed_input", f"parameters have at most {MAX_HEAD_BYTES} bytes", command=word.name)
    last, places = "", dict[str, tuple[int, int]]()
    for token in _tokens(text):
        pair = _pair(token[0])
        if pair is not None:
            last = pair[1].decode()
            places[last] = token.start() + pair.end(), token.end()
        elif kinds.get(last) is Kind.TEXT:
            places[last] = places[last][0], token.end()
        elif kinds.get("offsets") is Kind.OFFSETS:
            places["offsets"] = token.span()
        else:
            raise Refusal(
                "malformed_input",
                f"{_shown(token[0])} is not name=value",
                command=word.name,
                expected=quoted(word.syntax),
            )
    return {name: text[begin:end] for name, (begin, end) in places.items()} | values


def _value(word: Word, parameter: Parameter, raw: bytes) -> Any:
    kind = parameter.kind
    if kind is Kind.REST:
        return raw
    text = _decoded(word, parameter, raw)
    if kind in (Kind.NAME, Kind.TEXT):
        return text
    if kind is Kind.OFFSETS:
        return _offsets(word, parameter, text)
    if kind is Kind.FLAG and text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    if kind is Kind.CHOICE and text.lower() in parameter.choices:
        return text.lower()
    if kind in (Kind.COUNT, Kind.NUMBER) and _number(text) and parameter.least <= int(text) <= parameter.most:
        return int(text)
    raise _wrong(word, parameter, text)


def _decoded(word: Word, parameter: Parameter, raw: bytes) -> str:
    try:
        if len(raw) <= _LONGEST_NAME_BYTES:
            return raw.decode()
    except UnicodeDecodeError:
        pass
    raise _wrong(word, parameter, raw[:100].decode("utf-8", "replace"))


def _offsets(word: Word, parameter: Parameter, text: str) -> dict[int, int]:
    entries = text.split(",", MAX_OFFSETS)
    if len(entries) > MAX_OFFSETS:
        raise Refusal(parameter.invalid, f"at most {MAX_OFFSETS} pairs", command=word.name)
    offsets: dict[int, int] = {}
    for entry in entries:
        pair = _offset_pair(entry)
        if pair is None or int(pair[2]) >= 1 << 63 or int(pair[1]) >= 1 << 31:
            expected = parameter.kind.value
            raise Refusal(
                parameter.invalid, command=word.name, entry=quoted(entry), expected=quoted(expected)
            )
        partition = int(pair[1])
        if partition in offsets:
            raise Refusal("duplicate_partition", command=word.name, partition=partition)
        offsets[partition] = int(pair[2])
    return offsets


def _wrong(word: Word, parameter: Parameter, text: str) -> Refusal:
    """Return the refusal of a value, with what would be right."""
    if parameter.choices:
        expected = "|".join(parameter.choices)
    elif parameter.kind is Kind.FLAG:
        expected = parameter.kind.value
    elif parameter.kind in (Kind.COUNT, Kind.NUMBER):
        expected = f"a whole number from {parameter.least} to {parameter.most}"
    else:
        expected = f"UTF-8 of at most {_LONGEST_NAME_BYTES} bytes"
    return Refusal(
        parameter.invalid or f"invalid_{parameter.name}",
        command=word.name,
        value=quoted(text),
        expected=quoted(expected),
    )


def _shown(raw: bytes) -> str:
    return repr(raw[:100].decode("utf-8", "replace"))
