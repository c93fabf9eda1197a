"""Faults that a test wants clients to meet, by the kind of request: late, refused, cut off.

Owns which fault a request meets, and nothing of how: that is for the wire. A seed decides what is left to
chance, so that a test that fails can be run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

import attrs

__all__ = ["AFTER", "BEFORE", "Fault", "Faults"]

BEFORE: Final = "before"
AFTER: Final = "after"


def _drop(instance: Fault, attribute: object, value: str | None) -> None:
    if value not in (None, BEFORE, AFTER):
        raise ValueError(f"drop={value!r}: expected 'before', 'after' or None")


def _probability(instance: Fault, attribute: object, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"probability={value!r}: expected a number from 0 to 1")


def _natural(instance: Fault, attribute: attrs.Attribute[Any], value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or value < 0):
        raise ValueError(f"{attribute.name}={value!r}: expected a whole number, 0 or more")


@attrs.frozen(kw_only=True)
class Fault:
    """What happens to some requests.

    Attributes:
        api: which requests, by the name that Kafka's protocol guide uses, or the number; None for all.
        delay_ms: how long they wait before anything else is done about them; those behind them on their
            connection wait too.
        error: with what they are answered in place of being carried out: a name or number of Kafka's.
        drop: whether their connection is cut off: ``before`` they are carried out, or ``after``, in place of
            the answer.
        times: how many of them it happens to; None for all.
        skip: how many of them are spared first.
        probability: how likely it happens to one.
        client_id: whose; None for everybody's.
    """

    api: str | int | None = None
    delay_ms: int = attrs.field(default=0, validator=_natural)
    error: str | int | None = None
    drop: str | None = attrs.field(default=None, validator=_drop)
    times: int | None = attrs.field(default=None, validator=_natural)
    skip: int = attrs.field(default=0, validator=_natural)
    probability: float = attrs.field(default=1.0, validator=_probability)
    client_id: str | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what does nothing, or two things."""
        if not (self.delay_ms or self.error is not None or self.drop):
            raise ValueError("a fault that does nothing: expected delay_ms, error or drop")
        if self.error is not None and self.drop:
            raise ValueError("a fault with error and drop: expected one of them")


class _Planned:
    """A fault, and how often it may still happen."""

    __slots__ = ("dice", "fault", "key", "left", "met", "spared")

    def __init__(self, fault: Fault, key: int | None, dice: Random) -> None:
        self.fault = fault
        self.key = key
        self.dice = dice
        self.left = fault.times
        self.spared = fault.skip
        self.met = 0

    def meets(self, key: int, client_id: str) -> bool:
        fault = self.fault
        if self.left == 0 or self.key not in (None, key) or fault.client_id not in (None, client_id):
            return False
        if fault.probability < 1 and self.dice.random() >= fault.probability:
            return False
        if self.spared:
            self.spared -= 1
            return False
        if self.left is not None:
            self.left -= 1
        self.met += 1
        return True


class Faults:
    """The faults of one broker; the first that fits happens.

    Args:
        keys: API keys by name.
        codes: error codes by name.
    """

    def __init__(self, keys: Mapping[str, int], codes: Mapping[str, int]) -> None:
        self._keys = keys
        self._codes = codes
        self._planned: list[_Planned] = []

    def __bool__(self) -> bool:
        """Whether anything may happen to a request."""
        return bool(self._planned)

    def add(self, fault: Fault, seed: int = 0) -> int:
        """Have a fault happen from now on; return its number.

        Raises:
            ValueError: there is no such API, or no such error.
        """
        if isinstance(fault.error, str) and fault.error not in self._codes:
            known = ", ".join(self._codes)
            raise ValueError(f"error={fault.error!r}: expected a number or one of {known}")
        self._planned.append(_Planned(fault, self._key(fault.api), Random(seed)))
        return len(self._planned) - 1

    def clear(self) -> None:
        """Have nothing happen any more."""
        self._planned.clear()

    def met(self) -> list[int]:
        """Return how many requests each fault has happened to, in the order of adding."""
        return [planned.met for planned in self._planned]

    def next(self, key: int, client_id: str) -> Fault | None:
        """Return what happens to a request, and take note that it does."""
        return next((one.fault for one in self._planned if one.meets(key, client_id)), None)

    def code(self, error: str | int) -> int:
        """Return the number of an error on the wire."""
        return self._codes[error] if isinstance(error, str) else error

    def _key(self, api: str | int | None) -> int | None:
        if api is None or (isinstance(api, int) and api in self._keys.values()):
            return api
        found = self._keys.get(str(api))
        if found is None:
            raise ValueError(f"api={api!r}: expected one of {', '.join(sorted(self._keys))}, or its number")
        return found
