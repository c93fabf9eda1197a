"""Regular expressions over names, in time linear in the name.

Owns the syntax that Kafka's clients may ask for topics and transactional ids with, RE2's: the expression
must match the whole name, and there are no backreferences and no looking around. The standard library's
``re`` is never asked: its time is exponential for expressions a client could choose.

An expression becomes a program of a few kinds of steps (Thompson), the program is run for all positions at
once, and the sets of positions met are remembered as states of an automaton. Names are written in an
alphabet that is known beforehand, topic names in 65 characters, so a character class is the set of those it
holds.

Invariant: compiling takes time and memory bounded by ``MAX_PATTERN_CHARS`` and ``MAX_STEPS``; matching
raises ``PatternTooCostly`` rather than visit more than ``MAX_VISITS`` positions that no state remembers.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

from megabroker.errors import ErrorCode, RequestError

__all__ = [
    "MAX_PATTERN_CHARS",
    "MAX_STEPS",
    "MAX_VISITS",
    "TOPIC_ALPHABET",
    "NamePattern",
    "PatternTooCostly",
]

MAX_PATTERN_CHARS: Final = 4096
MAX_STEPS: Final = 4096
MAX_VISITS: Final = 400_000
_MAX_DEPTH: Final = 100
_MAX_REPEAT: Final = 1000
_MAX_STATES: Final = 2000
_MAX_CLASS_CHARS: Final = 1_000_000
"""Characters in all classes of an expression together; each character of it can begin a class."""

_Chars = frozenset[str]
_Node = tuple[Any, ...]

_DIGITS: Final = frozenset(string.digits)
_WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
TOPIC_ALPHABET: Final = _WORD | {".", "-"}
_NONE: Final[_Chars] = frozenset()
_SPACE: Final[_Chars] = frozenset("\t\n\f\r ")
_ASCII: Final = frozenset(map(chr, range(128)))
_CONTROL: Final = frozenset(map(chr, [*range(32), 127]))
_PERL: Final = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_POSIX: Final = {
    "alnum": frozenset(string.ascii_letters + string.digits),
    "alpha": frozenset(string.ascii_letters),
    "ascii": _ASCII,
    "blank": frozenset(" \t"),
    "cntrl": _CONTROL,
    "digit": _DIGITS,
    "graph": _ASCII - _CONTROL - {" "},
    "lower": frozenset(string.ascii_lowercase),
    "print": _ASCII - _CONTROL,
    "punct": frozenset(string.punctuation),
    "space": frozenset(string.whitespace),
    "upper": frozenset(string.ascii_uppercase),
    "word": _WORD,
    "xdigit": frozenset(string.hexdigits),
}
_ESCAPES: Final = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_ASSERTIONS: Final = {"A": "start", "z": "end", "b": "boundary", "B": "inside"}
_FLAGS: Final = frozenset("imsU")

# A step is (kind, argument, next): the kinds are these and the assertions' names.
_CHAR, _SPLIT, _MATCH = "char", "split", "match"
_Step = tuple[str, _Chars | int, int]

_END: Final = ""
"""What follows the last character."""


class PatternTooCostly(Exception):
    """The expression needs more work on these names than is allowed."""


class NamePattern:
    """One expression.

    Args:
        alphabet: every character of the names it will be asked about, and perhaps more.

    Raises:
        RequestError: INVALID_PATTERN.
    """

    def __init__(self, text: str, alphabet: frozenset[str] = TOPIC_ALPHABET) -> None:
        self.text = text
        self._steps = _Compiler(text, alphabet).program()
        self._visits_left = MAX_VISITS
        self._next: dict[tuple[_State, str], _State] = {}

    def matching(self, names: Iterable[str]) -> set[str]:
        """Return those names that the expression matches. Raises PatternTooCostly."""
        self._visits_left = MAX_VISITS
        return {name for name in names if self.matches(name)}

    def matches(self, name: str) -> bool:
        """Whether the whole of ``name`` matches."""
        state = _State(frozenset({0}), "start")
        for character in name:
            state = self._follow(state, character)
            if not state.positions:
                return False
        return bool(self._follow(state, _END).positions)

    def _follow(self, state: _State, character: str) -> _State:
        found = self._next.get((state, character))
        if found is None:
            if len(self._next) >= _MAX_STATES * 10:
                self._next.clear()
            found = self._next[state, character] = self._step(state, character)
        return found

    def _step(self, state: _State, character: str) -> _State:
        """Go past one character, or past the end, where only a match goes on."""
        seen = set(state.positions)
        waiting = list(seen)
        after: set[int] = set()
        holds = _holding(state.before, character)
        while waiting:
            position = waiting.pop()
            kind, argument, following = self._steps[position]
            reached: tuple[int, ...] = ()
            if kind == _CHAR:
                if character in argument:  # type: ignore[operator]
                    after.add(following)
            elif kind == _MATCH:
                if character == _END:
                    after.add(position)
            elif kind == _SPLIT:
                reached = (following, argument)  # type: ignore[assignment]
            elif kind in holds:
                reached = (following,)
            for one in reached:
                if one not in seen:
                    seen.add(one)
                    waiting.append(one)
        self._visits_left -= len(seen)
        if self._visits_left < 0:
            raise PatternTooCostly
        return _State(frozenset(after), "word" if character in _WORD else "other")


class _State:
    """A set of positions, and what kind of character lies before."""

    __slots__ = ("_hash", "before", "positions")

    def __init__(self, positions: frozenset[int], before: str) -> None:
        self.positions = positions
        self.before = before
        self._hash = hash((positions, before))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _State) and self.before == other.before and self.positions == other.positions


def _holding(before: str, character: str) -> frozenset[str]:
    """Return the assertions that hold between what lies before and ``character``."""
    word_before, word_after = before == "word", character != _END and character in _WORD
    holds = {"inside" if word_before == word_after else "boundary"}
    if before == "start":
        holds.add("start")
    if character == _END:
        holds.add("end")
    return frozenset(holds)


class _Compiler:
    """Reads an expression by recursive descent into a tree, then writes the tree as steps.

    Nodes are ("chars", set), ("assert", name), ("all", nodes), ("any", nodes) and
    ("repeat", node, least, most), ``most`` None for any number.
    """

    def __init__(self, text: str, alphabet: frozenset[str]) -> None:
        if len(text) > MAX_PATTERN_CHARS:
            raise _invalid(f"it has more than {MAX_PATTERN_CHARS} characters")
        if len(text) * len(alphabet) > _MAX_CLASS_CHARS:
            raise _invalid("it is too long for names in so many different characters")
        self._text = text
        self._alphabet = alphabet
        self._at = 0
        self._depth = 0
        self._fold = False
        self._steps: list[_Step] = []

    def program(self) -> list[_Step]:
        tree = self._alternatives()
        if self._at < len(self._text):
            raise _invalid("unexpected )")
        self._check_size(_size(tree) + 1)
        self._write(tree)
        self._steps.append((_MATCH, 0, 0))
        return self._steps

    # --- reading ----------------------------------------------------------------------------------

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        if not self._peek(text):
            return False
        self._at += len(text)
        return True

    def _one(self) -> str:
        if self._at >= len(self._text):
            raise _invalid("it ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, end: str) -> str:
        stop = self._text.find(end, self._at)
        if stop < 0:
            raise _invalid(f"missing {end}")
        found = self._text[self._at : stop]
        self._at = stop + len(end)
        return found

    def _alternatives(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _invalid(f"it is nested more than {_MAX_DEPTH} deep")
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._depth -= 1
        return branches[0] if len(branches) == 1 else ("any", branches)

    def _sequence(self) -> _Node:
        nodes: list[_Node] = []
        while self._at < len(self._text) and not self._peek("|") and not self._peek(")"):
            if self._take(r"\Q"):
                nodes.extend(("chars", self._folded(one)) for one in self._quoted())
                continue
            nodes.append(self._repeated(self._atom()))
        return ("all", nodes)

    def _quoted(self) -> str:
        if r"\E" in self._text[self._at :]:
            return self._until(r"\E")
        rest, self._at = self._text[self._at :], len(self._text)
        return rest

    def _repeated(self, node: _Node) -> _Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        self._take("?")
        if self._bounds() is not None:
            raise _invalid("two repetitions in a row")
        return ("repeat", node, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for text, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(text):
                return bounds
        if not self._peek("{"):
            return None
        least, comma, most = self._text[self._at + 1 :].partition("}")[0].partition(",")
        if not _is_number(least) or not (_is_number(most) or most == "") or "}" not in self._text[self._at :]:
            return None
        self._until("}")
        low = int(least)
        high = (int(most) if most else None) if comma else low
        if low > _MAX_REPEAT or (high is not None and (high > _MAX_REPEAT or high < low)):
            raise _invalid("a repetition is out of bounds")
        return low, high

    def _atom(self) -> _Node:
        character = self._one()
        if character == "(":
            return self._group()
        if character == "[":
            return ("chars", self._class())
        if character == ".":
            return ("chars", self._alphabet)
        if character in "^$":
            return ("assert", "start" if character == "^" else "end")
        if character in "*+?":
            raise _invalid(f"nothing to repeat before {character}")
        if character == "\\":
            if self._at < len(self._text) and self._text[self._at] in _ASSERTIONS:
                return ("assert", _ASSERTIONS[self._one()])
            return ("chars", self._escape())
        return ("chars", self._folded(character))

    def _group(self) -> _Node:
        fold = self._fold
        if self._take("?P<") or (self._peek("?<") and not self._peek("?<=") and not self._peek("?<!")):
            self._take("?<")
            name = self._until(">")
            if not name or not set(name) <= _WORD:
                raise _invalid("a group's name is not a word")
        elif self._take("?"):
            flags = ""
            while not self._peek(":") and not self._peek(")"):
                flags += self._one()
            self._set_flags(flags)
            if self._take(")"):
                return ("all", [])
            self._take(":")
        node = self._alternatives()
        if not self._take(")"):
            raise _invalid("missing )")
        self._fold = fold
        return node

    def _set_flags(self, flags: str) -> None:
        on, minus, off = flags.partition("-")
        if not set(on + off) <= _FLAGS or (minus and not off):
            raise _invalid(f"unknown (?{flags[:10]}")
        if "i" in on + off:
            self._fold = "i" in on

    def _folded(self, character: str) -> _Chars:
        return frozenset({character.lower(), character.upper()}) if self._fold else frozenset({character})

    def _escape(self) -> _Chars:
        """Read what follows a backslash, if it stands for characters."""
        character = self._one()
        if character.lower() in _PERL:
            inside = _PERL[character.lower()]
            return inside if character.islower() else self._alphabet - inside
        if character in "pP":
            return self._category(negated=character == "P")
        if character == "x":
            digits = self._until("}") if self._take("{") else self._one() + self._one()
            if not digits or len(digits) > 8 or not set(digits) <= set(string.hexdigits):
                raise _invalid(r"\x needs hexadecimal digits")
            code = int(digits, 16)
            return self._folded(chr(code)) if code < 0x110000 else _NONE
        if character in _ESCAPES:
            return frozenset({_ESCAPES[character]})
        if character.isalnum() and character.isascii() and character != "0":
            raise _invalid(f"unknown escape \\{character}")
        return self._folded("\0" if character == "0" else character)

    def _category(self, *, negated: bool) -> _Chars:
        name = self._until("}") if self._take("{") else self._one()
        if name.startswith("^"):
            name, negated = name[1:], not negated
        if name == "Any":
            found = self._alphabet
        elif name and name[0] in "LMNPSZC" and len(name) <= 2:
            found = frozenset(one for one in self._alphabet if unicodedata.category(one).startswith(name))
        elif name.isascii() and name.replace("_", "").isalpha():
            found = frozenset(one for one in self._alphabet if _script(one) == name)
        else:
            raise _invalid("unknown character category")
        return self._alphabet - found if negated else found

    def _class(self) -> _Chars:
        negated = self._take("^")
        found: set[str] = set()
        fold, self._fold = self._fold, False
        first = True
        while first or not self._peek("]"):
            first = False
            if self._take("[:"):
                name = self._until(":]")
                inside = _POSIX.get(name.removeprefix("^"))
                if inside is None:
                    raise _invalid("unknown class [:...:]")
                found |= self._alphabet - inside if name.startswith("^") else inside
                continue
            low = self._class_item()
            dash = self._at + 1 < len(self._text) and self._peek("-") and self._text[self._at + 1] != "]"
            if not dash:
                found |= low
                continue
            self._at += 1
            high = self._class_item()
            if len(low) != 1 or len(high) != 1 or min(low) > min(high):
                raise _invalid("a range in [...] has no order")
            found |= {one for one in self._alphabet if min(low) <= one <= min(high)}
        self._take("]")
        self._fold = fold
        if fold:
            found = {form for one in found for form in (one.lower(), one.upper())}
        return self._alphabet - found if negated else frozenset(found)

    def _class_item(self) -> _Chars:
        character = self._one()
        return self._escape() if character == "\\" else frozenset({character})

    # --- writing ----------------------------------------------------------------------------------

    def _check_size(self, steps: int) -> None:
        if steps > MAX_STEPS:
            raise _invalid("it is too large")

    def _write(self, node: _Node) -> None:
        kind = node[0]
        steps = self._steps
        if kind == "chars":
            steps.append((_CHAR, node[1], len(steps) + 1))
        elif kind == "assert":
            steps.append((node[1], 0, len(steps) + 1))
        elif kind == "all":
            for one in node[1]:
                self._write(one)
        elif kind == "any":
            self._write_any(node[1])
        else:
            self._write_repeat(*node[1:])

    def _write_any(self, branches: list[_Node]) -> None:
        steps = self._steps
        ends = []
        for branch in branches[:-1]:
            split = len(steps)
            steps.append((_SPLIT, 0, split + 1))
            self._write(branch)
            ends.append(len(steps))
            steps.append((_SPLIT, 0, 0))
            steps[split] = (_SPLIT, len(steps), split + 1)
        self._write(branches[-1])
        for end in ends:
            steps[end] = (_SPLIT, len(steps), len(steps))

    def _write_repeat(self, node: _Node, least: int, most: int | None) -> None:
        steps = self._steps
        for _ in range(least):
            self._write(node)
        if most is None:
            split = len(steps)
            steps.append((_SPLIT, 0, 0))
            self._write(node)
            steps.append((_SPLIT, split, split))
            steps[split] = (_SPLIT, len(steps), split + 1)
            return
        splits = []
        for _ in range(most - least):
            splits.append(len(steps))
            steps.append((_SPLIT, 0, 0))
            self._write(node)
        for split in splits:
            steps[split] = (_SPLIT, len(steps), split + 1)


def _size(node: _Node) -> int:
    """Return how many steps a node is written as, at most; before any is written."""
    kind = node[0]
    if kind == "all":
        return sum(_size(one) for one in node[1])
    if kind == "any":
        return sum(_size(one) + 2 for one in node[1])
    if kind == "repeat":
        least = int(node[2])
        most = least if node[3] is None else int(node[3])
        size = _size(node[1]) + 1
        return size * most + (size + 1 if node[3] is None else 0)
    return 1


def _script(character: str) -> str:
    """Return the script a character belongs to, as far as its name tells: exact for the usual ones."""
    if not unicodedata.category(character).startswith("L"):
        return "Common"
    first = unicodedata.name(character, "").partition(" ")[0]
    return "Han" if first == "CJK" else first.capitalize()


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 5 and text.isascii() and text.isdigit()


def _invalid(what: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_PATTERN, f"the regular expression is not valid: {what}")
