"""What administrators see and change of a running broker: configurations, loggers, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

__all__ = ["IBrokerConfigs", "IClientMetrics", "ILoggers", "IMetrics"]


class ILoggers(Interface):
    """The levels of the log while it runs; levels are names of ``twisted.logger.LogLevel``."""

    def levels() -> Mapping[str, str]:
        """Return every logger there is, the empty name being all, and the level in force for it."""

    def set(level: str | None, name: str = "") -> None:
        """Have events of ``level`` and above written; None goes back to what holds for all."""


class IMetrics(Interface):
    """The numbers of this process, as Prometheus reads them."""

    def render(accept: str) -> Deferred[tuple[str, bytes]]:
        """Fire with the content type and the text of all metrics.

        Args:
            accept: the Accept header's value, empty if there is none: OpenMetrics for who asks for it.
        """


class IBrokerConfigs(Interface):
    """Configurations of brokers that can be changed while they run (KIP-226), by Kafka's names."""

    file: Any = Attribute("What the configuration file says, ``megabroker.config.schema.Config``.")
    loggers: ILoggers = Attribute("The levels of the log.")

    def dynamic(*, for_all: bool) -> Mapping[str, str]:
        """Return what is set for all brokers, or for this one."""

    def validate(configs: Mapping[str, str], *, for_all: bool) -> None:
        """Raise RequestError(INVALID_REQUEST) unless all of it can be set."""

    def set(configs: Mapping[str, str], *, for_all: bool) -> Deferred[None]:
        """Replace what is set; fires when it is stored and in force. Fails with BrokerError."""


class IClientMetrics(Interface):
    """Subscriptions to the metrics of clients (KIP-714), by name; each has values by Kafka's names."""

    def names() -> Sequence[str]:
        """Return the names of all subscriptions, sorted."""

    def of(name: str) -> Mapping[str, str]:
        """Return what is set; nothing if there is no such subscription."""

    def validate(configs: Mapping[str, str]) -> None:
        """Raise RequestError (INVALID_REQUEST, INVALID_CONFIG) unless all of it can be set."""

    def set(name: str, configs: Mapping[str, str]) -> Deferred[None]:
        """Replace what is set, or remove it with nothing; fires when stored. Fails with BrokerError."""
