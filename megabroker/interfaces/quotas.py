"""How much clients may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.model import QuotaChange, QuotaEntity

__all__ = ["IMeter", "IMutations", "IQuotas"]


class IMutations(Interface):
    """The changes of topics that one request makes, counted in partitions (KIP-599)."""

    throttle_ms: int = Attribute("How long the client has to wait now, in milliseconds.")

    def record(partitions: int) -> None:
        """Count what is about to be changed. Raises StateError(OVERLOADED) if it must not be."""


class IMeter(Interface):
    """The quotas that hold for a client.

    What counts something returns for how many milliseconds the client must be heard no more, 0 for not.
    """

    limits_produce: bool = Attribute("Whether a request that produces may have to wait.")
    fetch_bytes: int = Attribute("The most that can be read at once without exceeding the quota at once.")

    def produced(size_bytes: int) -> int:
        """Count a request that produces."""

    def consumed(size_bytes: int) -> int:
        """Count records that are sent in any case."""

    def may_consume(size_bytes: int) -> int:
        """Count records that are not sent if the client has to wait; they are then not counted."""

    def worked(seconds: float) -> int:
        """Count time spent on a request."""

    def mutations(*, strict: bool) -> IMutations | None:
        """Return what counts the changes of a request, or None if they are not limited.

        Args:
            strict: refuse what exceeds the quota, as clients expect who know the error; else they wait.
        """


class IQuotas(Interface):
    """How much clients may use, by user, client id and address; the names are Kafka's."""

    limits_clients: bool = Attribute("Whether there are quotas of users or client ids at all.")
    limits_addresses: bool = Attribute("Whether there are quotas of addresses at all.")
    generation: int = Attribute("Changes whenever a quota is set or removed, and with ``renew``.")

    def renew() -> None:
        """Have everybody look anew who remembers that a client is not limited, or may do something."""

    def all() -> Mapping[QuotaEntity, Mapping[str, float]]:
        """Return what is set."""

    def check(change: QuotaChange) -> None:
        """Raise RequestError(INVALID_REQUEST) unless this can be set."""

    def change(changes: Sequence[QuotaChange]) -> Deferred[None]:
        """Make all of the changes or none; fires when they are stored. Fails with BrokerError."""

    def meter(user: str, client_id: str) -> IMeter | None:
        """Return the quotas that hold for a client, or None; not to be kept beyond a request."""

    def connection_ms(address: str) -> int:
        """Count a connection; return after how many milliseconds it must be closed, 0 if it may stay."""
