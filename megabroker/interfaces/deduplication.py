"""Message ids: which are known, and who decides about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import Attribute, Interface

from megabroker.errors import BrokerError
from megabroker.model import Acks

__all__ = ["IDedup", "IPublisher", "IPublishers"]


class IPublisher(Interface):
    """Takes messages whose ids another process decides about; satisfies ``Room``."""

    has_room: bool = Attribute("Whether a message may be published now.")

    def when_room(callback: Callable[[], None]) -> None:
        """Call back once when there is room."""

    def publish(
        topic: str,
        message_id: int,
        data: bytes,
        acks: Acks,
        outcome: Callable[[BrokerError | None], None],
    ) -> None:
        """Have a message stored unless its id is known.

        Args:
            acks: what the outcome waits for; not ``Acks.NONE``.
            outcome: called once and later, in the order of the calls, with None or an error; PeerError says
                that it may be stored all the same.
        """


class IPublishers(Interface):
    """Who decides whether a message's id is new: exactly one process for all ids of a topic."""

    def elsewhere(topic: str) -> IPublisher | None:
        """Return who takes the topic's messages; None if this process decides."""


class IDedup(Interface):
    """The 30-minute window of message ids already stored."""

    def seen(topic: str, message_id: int) -> bool:
        """Whether the id was confirmed for this scope within the window."""

    def claim(topic: str, message_id: int, outcome: Callable[[BrokerError | None], None]) -> bool:
        """Claim an id for storing.

        Returns:
            True: store the message, then call ``confirm`` or ``release`` once, whatever becomes of the
            client. ``outcome`` is not called.
            False: it is stored already, or somebody is storing it; ``outcome`` is called with the result,
            at once or later.
        """

    def acknowledge(topic: str, message_ids: Sequence[int]) -> None:
        """The claimed messages may be answered for, and may yet be lost: tell who waits and who comes.

        Still claimed: ``confirm`` or ``release`` follows.
        """

    def confirm(
        topic: str, message_ids: Sequence[int], done: Callable[[BrokerError | None], None] | None = None
    ) -> None:
        """The claimed messages are as durable as the broker promises: remember them for the window.

        ``done``, like everybody who waits for one of them, is called with None when that survives kill -9.
        """

    def release(topic: str, message_ids: Sequence[int], error: BrokerError) -> None:
        """The claimed messages are not stored, or no more: the next one may claim them."""
