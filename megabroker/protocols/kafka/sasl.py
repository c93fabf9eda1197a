"""Kafka connections of clients that must say who they are: SASL before all else, and again when it is time.

    SaslHandshake 1+   then SaslAuthenticate, as often as the mechanism takes (KIP-152)
    SaslHandshake 0    then i32 size | message of the mechanism, to and fro, with no header (KIP-43)

Owns what may be asked when. Before a client has authenticated only ApiVersions and these two are taken, in
frames and within a time that are bounded. A client whose session has a lifetime authenticates anew within it,
on the same connection, as the same user and by the same mechanism (KIP-368); one whose session is over may do
that and nothing else.

Once a client has authenticated nothing of this is left on the way of its requests: ``handle`` stands before
the class's own only while it must.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from megabroker.codec.framing import FrameReader
from megabroker.core.authentication.exchanges import Exchange, Step
from megabroker.core.timers import TimerHandle
from megabroker.errors import AuthenticationError, ProtocolError
from megabroker.interfaces import IAuthentication
from megabroker.net.trial import Trial
from megabroker.net.wire import Answer, Room
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.protocol import MIN_FRAME_BYTES, KafkaConnection

if TYPE_CHECKING:
    from megabroker.protocols.kafka.protocol import KafkaFactory

__all__ = ["Proof", "SaslConnection"]

_log = Logger()

_SIZE = struct.Struct(">i")
_KEY = struct.Struct(">h")
_SASL_HANDSHAKE: Final = 17
_SASL_AUTHENTICATE: Final = 36
_BEFORE: Final = frozenset({_SASL_HANDSHAKE, 18, _SASL_AUTHENTICATE})
_ANEW: Final = frozenset({_SASL_HANDSHAKE, _SASL_AUTHENTICATE})
_NOT_AGAIN_WITHIN_SECONDS: Final = 1.0
_LONGEST_NAME_CHARS: Final = 100


class Proof(NamedTuple):
    """What a client is answered to a message of its mechanism."""

    error: KafkaError = KafkaError.NONE
    text: str | None = None
    message: bytes = b""
    lifetime_ms: int = 0


class SaslConnection(KafkaConnection):
    """A connection on a listener that has mechanisms."""

    authenticates = True

    def __init__(self, factory: KafkaFactory) -> None:
        super().__init__(factory)
        assert self.broker.authentication is not None
        self._authentication: IAuthentication = self.broker.authentication
        self.handle = self._handle_first  # type: ignore[method-assign]
        self._exchange: Exchange | None = None
        self._is_bare = False  # messages come without a header
        self._mechanism = ""  # by which the client has authenticated
        self._since = 0.0
        self._expiry: TimerHandle | None = None
        self._is_over = False  # the session

    @property
    def sasl(self) -> SaslConnection:
        """See ``KafkaConnection``."""
        return self

    def make_reader(self) -> FrameReader:
        """Take no long frames from who is nobody yet."""
        reader = self._frames = super().make_reader()
        self._trial = Trial(self.broker.settings.limits, reader)
        return reader

    def _handle_first(self, event: memoryview) -> Room | None:
        """Take one frame of a client that has not authenticated."""
        if self._gate.closed:
            return self._gate
        self._trial.count(len(event))
        if self._is_bare:
            self._take_bare(bytes(event))
            return None
        self._allow(event, _BEFORE, "before the client authenticated")
        return super().handle(event)

    def _handle_over(self, event: memoryview) -> Room | None:
        """Take one frame of a client whose session is over."""
        if self._gate.closed:
            return self._gate
        self._allow(event, _ANEW, f"although the session of {self.principal} is over")
        return super().handle(event)

    def _allow(self, event: memoryview, keys: frozenset[int], when: str) -> None:
        (key,) = _KEY.unpack_from(event)
        if key not in keys:
            raise ProtocolError(f"a request of API key {key} {when}")

    # --- what the requests ask ---

    def choose(self, mechanism: str, *, bare: bool) -> KafkaError:
        """Begin to authenticate, or to do so anew.

        Args:
            bare: whether the messages come without a header.
        """
        if self._mechanism:
            now = self.broker.reactor.seconds()
            if self._expiry is None or now - self._since < _NOT_AGAIN_WITHIN_SECONDS:
                return KafkaError.ILLEGAL_SASL_STATE
        elif self._exchange is not None:
            self.fail(ProtocolError("the client chose a SASL mechanism again"))
            return KafkaError.ILLEGAL_SASL_STATE
        if mechanism not in self.factory.mechanisms:
            self.fail(
                ProtocolError(f"{mechanism[:_LONGEST_NAME_CHARS]!r} is not a SASL mechanism of this listener")
            )
            return KafkaError.UNSUPPORTED_SASL_MECHANISM
        self._exchange = self._authentication.begin(mechanism)
        if bare:
            self._is_bare = True
            self._frames.min_bytes = 0
        return KafkaError.NONE

    async def prove(self, message: bytes) -> Proof:
        """Take a message of the mechanism; one that proves nothing ends the connection, answered or not."""
        exchange = self._exchange
        if exchange is None:
            if not self._mechanism:
                self.fail(ProtocolError("the client did not choose a SASL mechanism first"))
            text = "expected a SaslHandshake before"
            return Proof(KafkaError.ILLEGAL_SASL_STATE, text)
        try:
            step: Step = await self._authentication.step(exchange, message)
            if step.principal is not None:
                self._check_same(exchange, step)
        except AuthenticationError as error:
            self._exchange = None
            self.disproven()
            self.fail(ProtocolError(_why(exchange, error)))
            text = f"Authentication failed: invalid credentials with SASL mechanism {exchange.mechanism}"
            return Proof(KafkaError.SASL_AUTHENTICATION_FAILED, text)
        if step.principal is None or self.closed:
            return Proof(message=step.answer)
        return Proof(message=step.answer, lifetime_ms=self._proven(exchange, step))

    def _check_same(self, exchange: Exchange, step: Step) -> None:
        if not self._mechanism:
            return
        if exchange.mechanism != self._mechanism:
            raise AuthenticationError(f"a mechanism other than {self._mechanism}, as which it began")
        if step.principal != self.principal:
            raise AuthenticationError(f"another user than {self.principal}, as which it began")

    def _proven(self, exchange: Exchange, step: Step) -> int:
        """Let a client in, or go on; return how long it may stay, in milliseconds, 0 for ever."""
        assert step.principal is not None
        lifetime_ms = self._lifetime_ms(step)
        if not self._mechanism:
            self._trial.end()
            self._frames.min_bytes = MIN_FRAME_BYTES
            self._is_bare = False
            self._take_all_requests()
            self.proven(step.principal)
        elif self._is_over:
            self._take_all_requests()
        self._is_over = False
        self._exchange = None
        self._mechanism = exchange.mechanism
        self._since = self.broker.reactor.seconds()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if lifetime_ms is not None:
            self._expiry = self.factory.timers.call_later(lifetime_ms, self._end_session)
        return lifetime_ms or 0

    def _lifetime_ms(self, step: Step) -> int | None:
        limits = [] if step.expires_ms is None else [max(1, step.expires_ms - self.broker.now_ms())]
        session_ms = self.broker.settings.security.session_ms
        if session_ms is not None:
            limits.append(session_ms)
        return min(limits) if limits else None

    def _take_all_requests(self) -> None:
        del self.handle

    def _end_session(self) -> None:
        """Take no more requests, also not those that the compiled turn would, until the client is back."""
        if not self.closed:
            self._is_over = True
            self._forget_templates()
            self.template = None
            self.forget_shapes()
            self.handle = self._handle_over  # type: ignore[method-assign]

    # --- messages without a header ---

    def _take_bare(self, message: bytes) -> None:
        slot = self.reserve(len(message))
        self._gate.close()
        Deferred.fromCoroutine(self._prove_bare(message, slot)).addErrback(self._bare_failed)

    async def _prove_bare(self, message: bytes, slot: Answer) -> None:
        proof = await self.prove(message)
        if not self.closed:
            is_good = proof.error is KafkaError.NONE
            slot.fill([_SIZE.pack(len(proof.message)), proof.message] if is_good else ())
            self._gate.open()

    def _bare_failed(self, failure: Any) -> None:
        _log.failure("SASL from {peer}", failure, peer=self.peer)
        self.close("internal error, logged above")

    def connection_closed(self) -> None:
        """Forget the session."""
        super().connection_closed()
        if self._expiry is not None:
            self._expiry.cancel()


def _why(exchange: Exchange, error: AuthenticationError) -> str:
    """Return what the log says of a client that is not let in."""
    name = exchange.claimed[:_LONGEST_NAME_CHARS]
    who = f" of {name!r}" if name else ""
    return f"authentication{who} by {exchange.mechanism} failed: {error.message}"
