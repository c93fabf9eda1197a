"""Bodies over HTTP are checked exactly as their description says, and no body fails the check itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from megabroker.http.api import all_routes
from megabroker.http.schema import INVALID, Object, ValueFault

_BODIES = {f"{route.method} {route.path}": route.body for route in all_routes() if route.body is not None}
_NAMES = sorted({name for body in _BODIES.values() for name in getattr(body, "fields", {})})
_WORDS = (
    "text",
    "base64",
    "latest",
    "topic",
    "read",
    "user",
    "allow",
    "SCRAM-SHA-256",
    "info",
    "User:a",
    "a",
)

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(0, 5000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(_WORDS)
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3),
    max_leaves=8,
)


def _like(body: Object) -> st.SearchStrategy[Any]:
    """Return what is nearly such a body: its names, and values that may fit."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys((*body.fields, "other"), _JSON))


def _is_as_described(body: Any, value: Any) -> bool:
    named: dict[str, Any] = {}
    schema = {**body.describe(named), "components": {"schemas": named}}
    return Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("name", sorted(_BODIES))
def test_what_is_read_is_what_is_described(name: str) -> None:
    body: Any = _BODIES[name]
    named: dict[str, Any] = {}
    body.describe(named)
    Draft202012Validator.check_schema({"$defs": named})

    @given(_like(body) | _JSON)
    @settings(max_examples=60, deadline=None, database=None)
    def agrees(value: Any) -> None:
        faults: list[ValueFault] = []
        read = body.read(value, "", faults)
        assert (read is INVALID) == bool(faults)
        described = _is_as_described(body, value)
        # What does not go together, and text that is no Unicode, no schema tells.
        beyond = all("as to is" in fault.expected or "surrogate" in fault.expected for fault in faults)
        assert described or faults
        assert not faults or not described or beyond, (value, faults)

    agrees()


def test_very_many_names_that_mean_nothing_cost_no_more_than_those_that_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []

    def close_matches(name: str, known: object, most: int) -> list[str]:
        compared.append(name)
        return []

    monkeypatch.setattr("megabroker.http.schema.get_close_matches", close_matches)
    body: Any = _BODIES["POST /v1/topics"]
    faults: list[ValueFault] = []
    strangers = {f"{number}{'partition' * 100}": 0 for number in range(10_000)}
    assert body.read({"name": "t", **strangers}, "", faults) is INVALID
    assert len(faults) == len(compared) == 50
    assert max(map(len, compared)) == 100
