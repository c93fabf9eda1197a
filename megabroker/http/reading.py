"""A request's parameters and body, checked by the kinds its route names; all faults at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from megabroker.errors import ErrorCode
from megabroker.http.problems import Problem
from megabroker.http.routes import PARAMETERS, Route
from megabroker.http.schema import INVALID, Field, Flag, Integer, Kind, Nullable, ValueFault, no_such

__all__ = ["read_body", "read_parameters"]

_MOST_PARAMETERS: Final = 100
_Faults = list[tuple[str, ValueFault]]


def read_parameters(
    route: Route, path: Mapping[str, str], query: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters in the address and behind the question mark. Raises Problem."""
    faults: _Faults = []
    in_path = {name: _read(PARAMETERS[name][0], text, name, "path", faults) for name, text in path.items()}
    in_query = _read_query(route.query, query, faults)
    if faults:
        raise refused(faults)
    return in_path, in_query


def _read_query(fields: Mapping[str, Field], query: str, faults: _Faults) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError as error:
        wrong = "UTF-8" if isinstance(error, UnicodeDecodeError) else f"at most {_MOST_PARAMETERS} parameters"
        raise Problem(400, ErrorCode.INVALID_REQUEST, f"the query cannot be read: expected {wrong}") from None
    read: dict[str, Any] = {}
    for name, text in pairs:
        field = fields.get(name)
        if field is None:
            faults.append(("query", ValueFault(_safe(name), repr(text[:100]), no_such(name, fields))))
        elif name in read:
            faults.append(("query", ValueFault(name, repr(text[:100]), "it once only")))
        else:
            read[name] = _read(field.kind, text, name, "query", faults)
    for name, field in fields.items():
        if name not in read:
            if field.default is INVALID:
                faults.append(("query", ValueFault(name, "nothing", f"a value: {field.doc}")))
            read[name] = field.default
    return read


def _read(kind: Kind, text: str, name: str, where: str, faults: _Faults) -> Any:
    """Read what has no type of its own."""
    value: Any = text
    inner = kind.of if isinstance(kind, Nullable) else kind
    if isinstance(inner, Integer):
        digits = text.removeprefix("-")
        value = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else text
    elif isinstance(inner, Flag):
        value = {"true": True, "false": False}.get(text, text)
    found: list[ValueFault] = []
    read = inner.read(value, name, found)
    faults += [(where, fault) for fault in found]
    return read


def read_body(route: Route, content_type: str | None, data: bytes) -> Any:
    """Return what came with a request. Raises Problem."""
    media = (content_type or "").partition(";")[0].strip().lower()
    if route.method in ("POST", "PUT", "PATCH"):
        expected = "application/json" if route.reads == "json" else "application/x-www-form-urlencoded"
        # What a form of another web page could send is none of these.
        if media != expected:
            raise Problem(
                415,
                ErrorCode.INVALID_REQUEST,
                f"the body has the type {media[:100] or 'none'}: expected Content-Type: {expected}",
            )
    if route.body is None:
        if data.strip() not in (b"", b"{}"):
            raise Problem(400, ErrorCode.INVALID_REQUEST, "there is a body: expected none")
        return None
    value = _parsed(data) if route.reads == "json" else _form(data)
    found: list[ValueFault] = []
    read = route.body.read(value, "", found)
    if found:
        raise refused([("body", fault) for fault in found])
    return read


def refused(faults: _Faults) -> Problem:
    """Return what tells all that is wrong with a request."""
    where, first = faults[0]
    name = first.path or "the whole"
    others = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Problem(
        400,
        ErrorCode.INVALID_REQUEST,
        f"{where}: {name}: {first.found}: expected {first.expected}{others}",
        faults=faults,
    )


class _NoJson(ValueError):
    """What Python would take, and JSON does not have; says what it is."""


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        why = f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        why = f"{error.msg} at line {error.lineno} column {error.colno}" if data else "empty"
    except RecursionError:
        why = "nested too deeply"
    except _NoJson as error:
        why = str(error)
    except ValueError:  # Python reads no integer of more than 4,300 digits
        why = "a number with thousands of digits"
    raise Problem(400, ErrorCode.INVALID_REQUEST, f"the body is not JSON: {why}: expected a JSON object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NoJson("a name that is there twice in an object")
    return found


def _no_number(text: str) -> Any:
    raise _NoJson(f"{text} is not JSON")


def _form(data: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=1000))
    except ValueError:
        raise Problem(400, ErrorCode.INVALID_REQUEST, "the form cannot be read: expected UTF-8") from None


def _safe(name: str) -> str:
    return name[:100].encode(errors="replace").decode()
