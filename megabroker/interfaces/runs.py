"""Batches that go to a partition together, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import Attribute, Interface

from megabroker.errors import BrokerError
from megabroker.model import Acks, RunRoom

__all__ = ["IRun", "ITakesRuns"]


class IRun(Interface):
    """Batches in a row, of several requests, that go to one partition together.

    Call it with None when all are stored, or with the error why they are not.
    """

    records = Attribute("How many records there are in all batches.")
    requests = Attribute("How many requests there are, each with a batch.")
    size_bytes = Attribute("How long all batches are.")
    received_bytes = Attribute("How long all requests are, their sizes included.")
    sent_bytes = Attribute("How much of their answers has been sent past what counts the rest.")
    began = Attribute("When the turn that brought them did; for whoever appends them.")
    data = Attribute("The batches, writable; whoever keeps it calls ``given``.")
    connections = Attribute("Who is to be answered.")

    def __call__(error: BrokerError | None) -> None:
        """Answer."""

    def stamp(base_offset: int, leader_epoch: int) -> None:
        """Write offsets, from ``base_offset`` on, and the leader epoch into all batches."""

    def note(segment: Any, position: int, interval: int) -> None:
        """Have a segment note all batches, of which the first is at ``position``, one after the other."""

    def sizes() -> Sequence[int]:
        """Return how long each batch is."""

    def given() -> None:
        """Say that ``data`` is somebody else's now."""


class ITakesRuns(Interface):
    """A partition that takes many batches in one call."""

    def open_run(acks: Acks) -> RunRoom | None:
        """Say what a run may hold if it is appended before anything else is.

        Returns:
            None where batches must come one by one, because they have to be looked at, or refused, or others
            wait for room.
        """

    def append_run(run: IRun, acks: Acks) -> None:
        """Accept all of a run, whose batches are of no idempotent producers.

        Raises:
            StateError, StorageError: refused; the run is not called.
        """
