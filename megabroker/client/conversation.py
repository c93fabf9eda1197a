"""What a wire is to those who do the I/O: requests to bytes, bytes to answers.

A ``Conversation`` is one connection's automaton. It does no I/O and knows no time, so a blocking socket and
a Twisted transport carry the same one. It raises ``BadResponse`` for whatever is not its protocol, as soon as
that can be told, and never holds more than one answer and what came behind it in the same chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeVar

from megabroker.client.errors import BadResponse

__all__ = ["KEPT_BYTES", "Address", "Answer", "Conversation", "Message", "Request", "Wire"]

T = TypeVar("T", covariant=True)

_TLS_BEGINS: Final = (b"\x15\x03", b"\x16\x03")  # an alert or a handshake, of any version

KEPT_BYTES: Final = 4 << 20
"""Of messages that came at once, what is kept beside the last one; the rest is to be asked for again."""


class Message(NamedTuple):
    """A message as it lies in a partition.

    Attributes:
        timestamp_ms: when it was made, in milliseconds since 1970; None on a wire that does not tell.
    """

    offset: int
    payload: bytes
    timestamp_ms: int | None = None

    @property
    def text(self) -> str:
        """The payload as text. Raises UnicodeDecodeError: it is none."""
        return self.payload.decode()


class Request(Generic[T]):
    """Something to ask of a broker, answered with a T; one class of values for each kind.

    Attributes:
        repeatable: whether it does no harm if the broker carries it out twice.
        streams: whether it is answered with any number of T, on a connection of its own.
    """

    __slots__ = ()
    repeatable: ClassVar[bool] = False
    streams: ClassVar[bool] = False


class Answer(NamedTuple):
    """An answer, or a piece of one.

    Attributes:
        number: of the request, as ``ask`` gave it.
        value: what was asked for, or a ``Refused``; None where a stream begins (if the wire says so) or ends.
        is_last: whether the request is answered completely.
    """

    number: int
    value: Any
    is_last: bool = True


class Address(NamedTuple):
    """Where a broker is, and whether it is reached by TLS; to name it in errors."""

    name: str
    is_tls: bool = False

    def doubt(self, protocol: str) -> str:
        """Return what to add to an error of a peer that may speak another protocol."""
        hint = (
            f"is that a {protocol} port, and is your certificate one that the broker takes?"
            if self.is_tls
            else f"is that a {protocol} port? One with TLS needs an ssl.SSLContext as tls"
        )
        return f" ({self.name}: {hint})"

    def check_plain(self, first: bytes | bytearray) -> None:
        """Look at the first bytes of a peer. Raises BadResponse: it speaks TLS."""
        if first.startswith(_TLS_BEGINS):
            raise BadResponse(
                f"{self.name} speaks TLS: give the client an ssl.SSLContext as tls, "
                "or an endpoint that has it"
            )


class Conversation(Protocol):
    """One connection's bytes."""

    greeting: Sequence[Request[Any]]
    """What has to be asked, and granted, before all else."""

    def ask(self, request: Request[Any]) -> tuple[int, bytes]:
        """Return a number for the request, and what to send.

        Raises:
            TypeError, ValueError: it holds what the wire cannot say.
        """

    def receive(self, data: bytes) -> Sequence[Answer]:
        """Take what came; return what that completed. Raises BadResponse."""

    def peer_closed(self) -> Sequence[Answer]:
        """The peer sends no more; return what that completed.

        Raises:
            ConnectionLost: something is left unanswered.
        """

    def doubt(self) -> str:
        """Return what to add to an error while nothing was ever answered: is this the right port?"""


class Wire(Protocol):
    """A protocol with its settings."""

    def converse(self, address: Address) -> Conversation:
        """Return the automaton for a new connection."""
