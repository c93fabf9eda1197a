"""A stream is a stream: however its bytes are cut on their way, the same comes of them.

TCP keeps the order of bytes and nothing else. What is answered, whether the connection stays, and what is
stored must be the same for every way to cut a conversation into chunks.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from megabroker.testing.protocol.conversation import Outcome, Wire, talk

__all__ = ["check_every_split", "check_random_splits", "difference"]

_CUTS_AT_ONCE = 400
_EXAMPLES = 50


def check_every_split(wire: Wire, *, at_most: int = _CUTS_AT_ONCE) -> Outcome:
    """Cut the conversation at every position, one cut at a time, and then at all of them.

    Args:
        at_most: the most single cuts to try; of a longer conversation those evenly over its length.

    Returns:
        What comes of it uncut.

    Raises:
        AssertionError: something else comes of it when it is cut; says where.
    """
    whole = talk(wire)
    length = sum(map(len, wire.conversation)) + len(wire.opening)
    step = max(1, -(-length // at_most))
    for position in range(1, length, step):
        _compare(wire, whole, [position])
    _compare(wire, whole, range(length))
    return whole


def check_random_splits(wire: Wire, *, examples: int = _EXAMPLES) -> None:
    """Cut the conversation at several random positions; hypothesis finds the fewest that matter.

    Raises:
        AssertionError: something else comes of it when it is cut; says where.
        ImportError: hypothesis is not installed.
    """
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    whole = talk(wire)
    length = sum(map(len, wire.conversation)) + len(wire.opening)

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sets(st.integers(1, max(1, length - 1)), max_size=20))
    def any_split(cuts: set[int]) -> None:
        _compare(wire, whole, cuts)

    any_split()


def _compare(wire: Wire, whole: Outcome, cuts: Collection[int]) -> None:
    ordered = sorted(cuts)

    def cut(begin: int, piece: bytes) -> Sequence[bytes]:
        inside = [at - begin for at in ordered if begin < at < begin + len(piece)]
        return [piece[a:b] for a, b in itertools.pairwise([0, *inside, len(piece)])]

    found = talk(wire, cut)
    if found != whole:
        where = f"at {ordered}" if len(ordered) < 30 else "into single bytes"
        raise AssertionError(
            f"cut {where}, the conversation came to something else: {difference(whole, found)}"
        )


def difference(expected: Outcome, found: Outcome) -> str:
    """Say in one sentence how two outcomes differ."""
    for number, (wanted, got) in enumerate(zip(expected.answers, found.answers, strict=True)):
        if wanted != got:
            at = next((i for i, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b), None)
            at = min(len(wanted), len(got)) if at is None else at
            what = f"piece {number} of the conversation" if number else "the opening"
            return (
                f"the answer to {what} has {got[at : at + 40]!r} at byte {at}, "
                f"expected {wanted[at : at + 40]!r} ({len(got)} bytes, expected {len(wanted)})"
            )
    if expected.is_closed != found.is_closed:
        return "the connection was closed" if found.is_closed else "the connection was not closed"
    return f"stored is {found.records}, expected {expected.records}"
