"""Fuzz targets for what people and their programs write: expressions, times, addresses, HTTP, log-ins."""

from __future__ import annotations

import base64
import json
import re
import warnings
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed

from megabroker.cli.moments import read_place
from megabroker.config.endpoint import parse_endpoint
from megabroker.config.workers import shifted
from megabroker.core.authentication.exchanges import OauthExchange, PlainExchange, ScramExchange
from megabroker.core.authentication.scram import DIGESTS, credential
from megabroker.core.authentication.tokens import KeySet, TokenRules, Tokens
from megabroker.core.name_pattern import NamePattern, PatternTooCostly
from megabroker.errors import AuthenticationError, RequestError
from megabroker.http.api import all_routes
from megabroker.http.problems import Problem, described
from megabroker.http.reading import read_body, read_parameters
from megabroker.http.routes import Router
from tests.fuzz.target import Target, refusing

__all__ = ["text_targets"]

# --- regular expressions over names ------------------------------------------------------------------

_PATTERNS = [
    "a.b|c*",
    "(?i)Ab+?(c|[^d-f])*$",
    r"\Qa.b\E\d\w\s\pL",
    "^(?:a{2,3}|[[:alpha:]_]{1,}){0,2}$",
    r"(?P<name>[\]a-c\-])\b\B\x41\x{62}\101",
]
_NAMES = ("", "a", "b", "ab", "a.b", "aaa", "abc", "-", "cab", "A_1")
_SHARED_SYNTAX = re.compile(r"[abc.|()*+?\[\]^\-]{0,24}")
_DIFFERENT = ("*+", "++", "?+", "(?", "[[", "--", "||", "&&", "~~", "]]")


def _pattern(data: bytes) -> None:
    text = data.decode(errors="replace")
    pattern = NamePattern(text)
    try:
        found = pattern.matching(_NAMES)
    except PatternTooCostly:
        return
    assert pattern.matching(_NAMES) == found
    if _SHARED_SYNTAX.fullmatch(text) and not any(one in text for one in _DIFFERENT):
        assert found == _matching(text, found), found


def _matching(text: str, found: set[str]) -> set[str]:
    """Return what the standard library makes of an expression that means the same to it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(text)
    except re.error:
        return found
    return {name for name in _NAMES if compiled.fullmatch(name)}


# --- times, places, addresses ------------------------------------------------------------------------

_PLACES = [b"start", b"latest", b"17", b"-10", b"+3", b"@-1h", b"@now", b"@1700000000000"]
_PLACES += [b"@2026-11-21T12:00", b"@2026-11-21T12:00:00.5+01:00", b"@20261121T12Z", b"@2026-W47-6"]


def _place(data: bytes) -> None:
    place = read_place(data.decode(errors="replace"), 1_700_000_000_000)
    given = [
        one
        for one in (place.offset, place.after_start, place.before_end, place.timestamp_ms)
        if one is not None
    ]
    assert len(given) == 1
    assert 0 <= given[0] < 1 << 63


_ENDPOINTS = [b"tcp:9092", b"tcp:port=0:interface=127.0.0.1:backlog=5", rb"tcp:9092:interface=\:\:1"]
_ENDPOINTS += [
    b"unix:/run/a.sock:mode=660:lockfile=0",
    b"systemd:domain=INET:index=0",
    b"systemd:INET6:name=a",
]


def _endpoint(data: bytes) -> None:
    text = data.decode(errors="replace")
    if text.partition(":")[0] not in ("tcp", "unix", "systemd"):
        return  # Twisted's to read, which opens files for some
    found = parse_endpoint(text)
    if found.port is not None:
        assert 0 <= found.port <= 65535
        moved = parse_endpoint(shifted(text, 3))
        assert moved.port == (found.port + 3 if found.port else 0)
        assert {**moved.options, "port": ""} == {**found.options, "port": ""}


# --- HTTP --------------------------------------------------------------------------------------------

_ROUTES = all_routes()
_ROUTER = Router(_ROUTES)
_TYPES = {"json": "application/json", "form": "application/x-www-form-urlencoded"}


def _requests() -> list[bytes]:
    """Return a request of every route, with what its description has, as method, path and query, body."""
    found = []
    for route in _ROUTES:
        query = "&".join(f"{name}={_example(field.kind)}" for name, field in route.query.items())
        body = b"" if route.body is None else json.dumps(_example(route.body)).encode()
        path = re.sub(r"{\w+(\.\.\.)?}", "7", route.path)
        found.append(f"{route.method} {path}?{query}\n".encode() + body)
    return found


def _example(kind: Any) -> Any:
    """Return something of a kind, by its description."""
    named: dict[str, Any] = {}
    return _of_schema(kind.describe(named), named)


def _of_schema(schema: dict[str, Any], named: dict[str, Any], depth: int = 0) -> Any:
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object" and depth < 6:
        each = schema.get("properties", {"a": schema.get("additionalProperties") or {}})
        return {name: _of_schema(one, named, depth + 1) for name, one in each.items()}
    if schema.get("type") == "array" and depth < 6:
        return [_of_schema(schema["items"], named, depth + 1)]
    return {"integer": 7, "number": 0.5, "boolean": True, "string": "abc"}.get(schema.get("type", ""))


def _http(data: bytes) -> None:
    line, _, body = data.partition(b"\n")
    method, _, uri = line.decode("latin-1").partition(" ")
    path, _, query = uri.partition("?")
    try:
        route, in_path = _ROUTER.find(method, path)
    except Problem as problem:
        json.dumps(described(problem))
        route, in_path = _ROUTES[len(data) % len(_ROUTES)], {}
    for read in (
        lambda: read_parameters(route, in_path, query),
        lambda: read_body(route, _TYPES[route.reads], body),
    ):
        try:
            read()
        except Problem as problem:
            json.dumps(described(problem)).encode("ascii")


# --- log-ins -----------------------------------------------------------------------------------------

_SALTED = b"salted password "
_KEPT = {name: credential(digest, 4096, b"salt", _SALTED) for name, digest in DIGESTS.items()}
_RULES = TokenRules(issuer="i", audiences=("a",), name_claim="sub", skew_ms=0)


class _Passwords:
    async def check(self, user: str, password: str) -> bool:
        return user == password


class _Credentials:
    def of(self, user: str) -> Any:
        return _KEPT if user == "user" else {}


def _in_place(read: Any) -> Deferred[Any]:
    return succeed(read())


def _log_ins() -> list[bytes]:
    head = base64.urlsafe_b64encode(b'{"alg":"RS256","kid":"k","typ":"JWT"}').rstrip(b"=")
    token = head + b"." + base64.urlsafe_b64encode(b'{"sub":"u","exp":1}').rstrip(b"=") + b"." + b"c2ln"
    scram = b"n,,n=user,r=nonce,x=y\0c=biws,r=nonceown,p=" + base64.b64encode(bytes(32))
    return [
        b"P\0user\0user",
        b"2" + scram,
        b"5y,a=us=2Cer,n=us=2Cer,r=nonce\0c=eSxhPXVzPTJDZXI=,r=nonceown,p=" + base64.b64encode(bytes(64)),
        b"On,a=u,\x01auth=Bearer " + token + b"\x01host=h\x01\x01\0\x01",
    ]


def _log_in(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    exchange: Any
    if kind == b"P":
        exchange, messages = PlainExchange(_Passwords()), [rest]  # type: ignore[arg-type]
    else:
        messages = rest.split(b"\0", 2)
        if kind == b"O":
            keys = KeySet(dict, 1.0, lambda read: _in_place(read), lambda: 0.0)
            exchange = OauthExchange(Tokens(keys, lambda: _RULES, lambda: 0))
        else:
            mechanism = "SCRAM-SHA-256" if kind == b"2" else "SCRAM-SHA-512"
            exchange = ScramExchange(mechanism, _Credentials())  # type: ignore[arg-type]
    for message in messages:
        found: list[Any] = []
        ensureDeferred(exchange.step(message)).addBoth(found.append)
        (result,) = found
        if hasattr(result, "trap"):
            result.trap(AuthenticationError)
            return
        assert result.principal is None or result.principal.name == exchange.claimed


def text_targets() -> dict[str, Target]:
    """Return them by name."""
    return {
        "name-pattern": Target(
            [one.encode() for one in _PATTERNS], refusing(_pattern, RequestError), fixed_bytes=4 << 20
        ),
        "place": Target(_PLACES, refusing(_place, ValueError)),
        "endpoint": Target(_ENDPOINTS, refusing(_endpoint, ValueError)),
        "http-request": Target(_requests(), _http, fixed_bytes=256 << 10, per_byte=1000),
        "log-in": Target(_log_ins(), _log_in, fixed_bytes=1 << 20),
    }
