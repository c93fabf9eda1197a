"""The connection every built-in protocol is made of: order, flow control, limits, one line at the end.

Data flows one way through ``BrokerConnection``:

    bytes -> reader (sans-IO) -> ``handle(event)`` -> Answer slots, in order -> output

*Reader.* The subclass supplies a ``Reader`` (``megabroker.codec.framing.FrameReader`` is one). Its ``next``
may raise ProtocolError: the stream is then of no more use.

*Order.* Requests may be answered at once (``answer``) or later (``reserve`` gives a slot to ``fill``).
Answers leave in the order of the requests, and all answers of one turn leave in one send.

*Flow control*, without unbounded memory anywhere. Reading stops, and requests already received wait in
the reader, while any of these holds; it goes on when none does:

- PARKED: ``handle`` returned something with ``when_room`` (a partition whose queue is full, or the
  admission budget). The same event is offered again once there is room.
- OUTPUT: more than ``output_buffer_bytes`` wait to be sent; the peer reads too slowly. While all connections
  together hold more than ``limits.unread_answer_bytes`` (``megabroker.net.unread``), 64 KiB are enough.
- SLOTS: ``max_unanswered`` requests wait for their answers.
- ANSWERS: more than ``output_buffer_bytes`` of answers wait for an earlier request to be answered.
- MUTED: the client has used more than its quotas allow, and has to wait (KIP-219); answers go out.
- TURN: what it has brought takes longer than a turn should (``megabroker.net.turns``); others come first.
- BUDGET: all connections together hold more request bytes than ``limits.in_flight_bytes``
  (``megabroker.net.admission`` says who has to wait then).

*Deadlines.* No timer per connection: the factory sweeps once a second. A frame that stays incomplete, or
a connection silent and owed nothing, is closed. *End.* Every abnormal end is logged once, with its cause.

Invariant: one connection never harms another; any exception in here ends this connection alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.errors import AuthenticationError, LimitError, ProtocolError
from megabroker.model import ANONYMOUS, Buffer, Principal
from megabroker.net.admission import FREE_BYTES, Share
from megabroker.net.client import Client
from megabroker.net.output import Part, StockOutput, total_length
from megabroker.net.transport import DirectServer
from megabroker.net.turns import Turns
from megabroker.net.wire import Answer, Reader, Room

if TYPE_CHECKING:
    from megabroker.net.factory import BrokerFactory

__all__ = ["BrokerConnection"]

_log = Logger()

_PARKED = 1
_OUTPUT = 2
_SLOTS = 4
_BUDGET = 8
_CLOSING = 16
_FINISHING = 32
_ANSWERS = 64
_MUTED = 128
_TURN = 256
_WAITING = _PARKED | _OUTPUT | _SLOTS | _BUDGET | _ANSWERS | _MUTED | _TURN
_BUT_BUDGET = ~_BUDGET
"""Why no request is taken. The budget only keeps from reading: what was read must be got rid of, for several
connections with more of it than the budget would wait for each other for ever."""

_LOOK_AT_TIME = 7
_LARGE_ANSWERS_BYTES = 16 * 1024
"""A turn's time is looked at after seven requests and one, or sooner where answers are large."""


_SlotT = TypeVar("_SlotT", bound=Answer)


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class BrokerConnection(Client, TwistedProtocol):
    """One client's connection; a subclass per wire gives ``make_reader`` and ``handle``.

    Attributes:
        peer: the peer's address, for the log.
        max_unanswered: requests taken before the first of them must be answered.
        gathers: whether ``turn_ended`` does anything.
        longest_key: which configuration key says how long a frame may be.
        counts: what the listener has done.
        turns: the broker's.
        client_id: what the client calls itself, if its wire lets it.
        authenticates: whether the wire has a way for the peer to say who it is, and it must.
        idle_exempt: whether the connection may stay silent for ever (it is being pushed to).
        owned: whether the event in hand may be kept and written to.
    """

    max_unanswered: ClassVar[int] = 4096
    gathers: ClassVar[bool] = False
    longest_key: ClassVar[str] = "limits.max_request_bytes"
    authenticates: ClassVar[bool] = False
    idle_exempt = False
    client_id: str | None = None
    factory: BrokerFactory

    def __init_subclass__(cls) -> None:
        cls.gathers = cls.turn_ended is not BrokerConnection.turn_ended

    def __init__(self, factory: BrokerFactory) -> None:
        self.factory = factory
        self.counts = factory.counts
        self.broker = factory.broker
        self.turns: Turns = factory.broker.turns
        self.reader: Reader = self.make_reader()
        self.peer = "?"
        self.peer_host = "?"
        self.principal = ANONYMOUS
        self.active_tick = factory.tick
        self.closed = False
        self.owned = False
        self._output: DirectServer | StockOutput | None = None
        self._slots: deque[Answer] = deque()
        self._ready: list[Part] = []
        self._stopped = 0
        self._pumping = False
        self._flushing = False
        self._parked: Any = None
        self._parked_bytes = 0
        self._parked_since = 0.0
        self._offered_since = 0.0  # of the event in hand, if it was parked or came behind one that was
        self._share = Share(factory.admission, self._budget_has_room)
        self._unanswered_bytes = 0
        self._answer_bytes = 0  # of answers made and not yet handed to the output
        self._unread = factory.admission.unread
        self._is_weighed = False  # whether that account has this connection
        self._partial_tick: int | None = None
        self._unproven_tick: int | None = None
        self._is_secure: bool | None = None  # not yet if False; None where there is no TLS
        self._input_closed = False
        self._why: str | None = None
        self._muted: IDelayedCall | None = None

    # --- what a wire supplies ---

    def make_reader(self) -> Reader:
        """Return a new reader for this wire."""
        raise NotImplementedError

    def handle(self, event: Any) -> Room | None:
        """Take one event.

        Returns:
            None when it was taken: ``answer`` was called or a slot reserved (or no answer is owed). What
            is full when it was not taken: the event is offered again when there is room. An event that
            is a view may be kept only while ``owned``, else copied.

        Raises:
            ProtocolError: the peer is at fault; ``farewell`` is sent and the connection closed.
        """
        raise NotImplementedError

    def farewell(self, error: ProtocolError) -> Sequence[Part]:
        """Return what to send before closing after ``error``; nothing by default."""
        return ()

    def connection_closed(self) -> None:
        """Called once when the connection is gone; for cancelling what waits."""

    def turn_ended(self) -> None:
        """Called when all events of a chunk were offered; for work gathered over the turn."""

    # --- what a wire uses ---

    def answer(self, parts: Sequence[Part]) -> None:
        """Answer the present request now."""
        self._answer_bytes += total_length(parts)
        if self._slots:
            slot = Answer(self, 0)
            slot.parts = parts
            self._slots.append(slot)
        else:
            self._ready.extend(parts)
            if not (self._pumping or self._flushing):
                self._flushing = True
                self.factory.flush_soon(self)

    def push(self, parts: Sequence[Part]) -> None:
        """Send what is no answer, before all answers still owed; ask ``output_is_full`` first."""
        if self.closed:
            return
        self._answer_bytes += total_length(parts)
        self._ready.extend(parts)
        if not (self._pumping or self._flushing):
            self._flushing = True
            self.factory.flush_soon(self)

    def reserve(self, size_bytes: int = 0) -> Answer:
        """Keep the place of the present request's answer."""
        return self.add_slot(Answer(self, size_bytes))

    def add_slot(self, slot: _SlotT) -> _SlotT:
        """Keep a place with a slot of one's own making."""
        self._slots.append(slot)
        self._unanswered_bytes += slot.size_bytes
        return slot

    def expect(self, *shape: Any) -> None:
        """Have the compiled turn take requests of a shape from now on, if there is one (``net.quick``)."""
        if isinstance(self._output, DirectServer):
            self._output.expect(*shape)

    @property
    def expects(self) -> bool:
        """Whether ``expect`` has an effect."""
        return isinstance(self._output, DirectServer) and self._output.expects

    def forget_shapes(self) -> None:
        """Take every request that comes from now on by ``handle``, until something is expected again."""
        if isinstance(self._output, DirectServer):
            self._output.quick = None

    def proven(self, principal: Principal) -> None:
        """The peer has said who it is, and it is true."""
        self.principal = principal
        self._unproven_tick = None
        if principal is not ANONYMOUS:
            _log.debug(
                "{protocol} connection from {peer} is {principal}'s",
                protocol=self.factory.listener.protocol,
                peer=self.peer,
                principal=principal,
            )

    def disproven(self) -> None:
        """The peer is not who it says: whatever its connection ends with is why it was not let in."""
        self.counts.denied += 1
        self._unproven_tick = self.factory.tick

    def since(self) -> float:
        """Return when the event in hand came, by the monotonic clock, as far as it has been looked at."""
        return self._offered_since or self.turns.began or monotonic()

    @property
    def ended_well(self) -> bool:
        """Whether nothing abnormal has ended the connection, or is about to."""
        return self._why is None

    @property
    def unanswered(self) -> int:
        """Requests taken whose answers have not been handed to the output."""
        return len(self._slots)

    @property
    def is_heard(self) -> bool:
        """Whether what the peer sends is read at present."""
        return not self._stopped

    def mute(self, milliseconds: int) -> None:
        """Take no more requests for so long, or as long as it was muted before if that is longer."""
        seconds = milliseconds / 1000
        self.counts.throttled += 1
        self.counts.throttled_ms += milliseconds
        if self._muted is not None:
            if self._muted.getTime() < self.broker.reactor.seconds() + seconds:
                self._muted.reset(seconds)
        elif not self._stopped & (_CLOSING | _FINISHING):
            self._stop(_MUTED)
            self._muted = self.broker.reactor.callLater(seconds, self._unmute)

    def turn_away(self, milliseconds: int) -> None:
        """Hear nothing from the peer, and close after so long; call it before the connection is made."""
        self._stop(_CLOSING)
        self._muted = self.broker.reactor.callLater(milliseconds / 1000, self._turned_away)

    def close(self, why: str | None = None) -> None:
        """Send what is ready, then close; ``why`` is logged when it is something abnormal."""
        if self._stopped & _CLOSING:
            return
        if why is not None and self._why is None:
            self._why = why
        self._input_closed = True
        self._stop(_CLOSING)
        self._flush()
        self._close_output()

    def finish(self) -> None:
        """Take no more requests; close once those taken are answered and sent."""
        self._input_closed = True
        self._parked = None
        self._parked_bytes = 0
        self._stop(_FINISHING)
        self._stopped &= ~_WAITING
        self._close_when_done()

    def abort(self, why: str) -> None:
        """Drop the connection at once."""
        if self._why is None:
            self._why = why
        self._stop(_CLOSING)
        if not self.closed and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    # --- connection events ---

    def connectionMade(self) -> None:
        """IProtocol: set up the output."""
        transport = self.transport
        assert transport is not None
        if isinstance(transport, DirectServer):
            self._output = transport
        else:
            self._output = StockOutput(transport, self.output_drained, self.output_failed)
            self.dataReceived = self._received_outside_turns  # type: ignore[method-assign]
        self.factory.connections[self] = None
        if self.factory.tls is not None:
            self._is_secure = False
        if self.authenticates or self.factory.tls is not None:
            self._unproven_tick = self.factory.tick
        if self._stopped:
            transport.pauseProducing()  # type: ignore[attr-defined]

    def handshakeCompleted(self) -> None:
        """IHandshakeListener: the peer may have shown a certificate."""
        tls = self.factory.tls
        if tls is None:
            return
        self._is_secure = True
        if not self.authenticates:
            try:
                self.proven(tls.principal(self.transport.getPeerCertificate()))  # type: ignore[union-attr]
            except AuthenticationError as error:
                self.counts.denied += 1
                self.close(error.message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """IProtocol: give everything back."""
        if self._is_secure is False and self._why is None and self.factory.tls is not None:
            self._why = self.factory.tls.explain(reason.value)
        self.closed = True
        self._stopped |= _CLOSING
        self._slots.clear()
        self._ready.clear()
        self._parked = None
        self._answer_bytes = 0
        self._unread.forget(self)
        if self._muted is not None:
            self._muted.cancel()
            self._muted = None
        self._share.give_back()
        self.factory.connection_gone(self)
        if self._why is not None:
            self._tell_end(self._why)
        try:
            self.connection_closed()
        except Exception:  # noqa: BLE001 - the connection edge: logged, and the others go on
            _log.failure("closing a {protocol} connection", protocol=self.factory.listener.protocol)
        # Whatever refers back to it would keep it until a collection of garbage finds it.
        self._output = None
        self.handle = self.dataReceived = _pass_over  # type: ignore[method-assign, assignment]

    def _tell_end(self, why: str) -> None:
        """Log an abnormal end; of clients that are refused again and again the audit log says how many."""
        protocol = self.factory.listener.protocol
        is_told = self._unproven_tick is None or self.broker.audit.refused(protocol, self.peer_host, why)
        tell = _log.warn if is_told else _log.debug
        tell("{protocol} connection from {peer} closed: {why}", protocol=protocol, peer=self.peer, why=why)

    def readConnectionLost(self) -> None:
        """IHalfCloseableProtocol: the peer sends no more but may still read answers."""
        if self.reader.mid_frame and not self._slots and self._why is None:
            self._why = "the peer closed in the middle of a frame"
        self._input_closed = True
        self._close_when_done()

    def writeConnectionLost(self) -> None:
        """IHalfCloseableProtocol: not used."""

    def receive_filled(self, count: int) -> None:
        """For ``DirectServer``: bytes were put into the target."""
        self.counts.received_bytes += count
        self.reader.filled(count)
        self._pump()

    def dataReceived(self, data: Buffer) -> None:
        """IProtocol: take a chunk; it may be reused by the caller afterwards."""
        self.counts.received_bytes += len(data)
        self.reader.feed(data)
        self._pump()

    def _received_outside_turns(self, data: Buffer) -> None:
        """Do the same where the transport knows no turns: no peer has the reactor for longer than a turn."""
        self.counts.received_bytes += len(data)
        self.reader.feed(data)
        self.broker.turns.timed(self._pump)

    def _pump(self) -> None:
        """Offer events until there are none or something says stop; send, and account for the rest."""
        self.active_tick = self.factory.tick
        self._pumping = True
        try:
            if not self._stopped & _BUT_BUDGET:
                self._offer_events()
        except Exception as error:  # noqa: BLE001 - the connection edge
            self.fail(error)
        if self._offered_since:
            self._offered_since = 0.0
        if self.gathers:
            try:
                self.turn_ended()
            except Exception as error:  # noqa: BLE001 - the connection edge
                self.fail(error)
        self._pumping = False
        if self.closed:
            return
        reader = self.reader
        if self._stopped:
            reader.release()
        if self._ready:
            self._flush()
        if self._answer_bytes > FREE_BYTES and not self._flushing:
            self._weigh()
        held = reader.held_bytes + self._parked_bytes + self._unanswered_bytes
        charged = self._share.charged_bytes
        if held < charged or reader.mid_frame or self._partial_tick is not None:
            self._settle()
        elif held > charged and not self._flushing:
            self._flushing = True
            self.factory.flush_soon(self)

    def fail(self, error: Exception) -> None:
        """End this connection alone for what has failed by the peer or by us; call it as that is handled."""
        if isinstance(error, ProtocolError):
            self.counts.violations += 1
            if isinstance(error, LimitError):
                self.counts.met(error.key or self.longest_key)
            self._give_up(str(error), self.farewell(error))
            return
        self.counts.failures += 1
        _log.failure(
            "{protocol} connection from {peer}",
            protocol=self.factory.listener.protocol,
            peer=self.peer,
        )
        self._give_up("internal error, logged above", ())

    def _offer_events(self) -> None:
        reader = self.reader
        event = self._parked
        if event is not None:
            self._parked = None
            self._parked_bytes = 0
            self.owned = True
            self._offered_since = self._parked_since
        else:
            event = reader.next()
            self.owned = reader.owned
        taken = 0
        while event is not None:
            full = self.handle(event)
            if full is not None:
                self._park(event, full)
                return
            if len(self._slots) >= self.max_unanswered:
                self._stop(_SLOTS)
            if self._answer_bytes > self.factory.output_buffer_bytes:
                # Small requests may have large answers: one chunk of them must not all be answered at once.
                self._flush()
                if self._answer_bytes > self.factory.output_buffer_bytes:
                    self.counts.met("limits.output_buffer_bytes")
                    self._stop(_ANSWERS)
            if self._stopped & _BUT_BUDGET:
                return
            taken += 1
            looks_at_time = not taken & _LOOK_AT_TIME or self._answer_bytes > _LARGE_ANSWERS_BYTES
            if looks_at_time and monotonic() > self.turns.deadline:
                self._stop(_TURN)
                self.turns.take_up_later(self._take_up)
                return
            event = reader.next()
            self.owned = reader.owned

    def _park(self, event: Any, full: Room) -> None:
        if isinstance(event, memoryview):
            if not self.owned:
                event = memoryview(bytearray(event))
            self._parked_bytes = len(event)
        self._parked = event
        self._parked_since = self.since()
        self._offered_since = 0.0
        self._stop(_PARKED)
        full.when_room(self._unpark)

    def _settle(self) -> None:
        """After a turn: account for memory, note an incomplete frame, send."""
        reader = self.reader
        held = reader.held_bytes + self._parked_bytes + self._unanswered_bytes
        # A frame that is not read on for a while keeps nobody else's from being read.
        announced = 0 if self._stopped & _MUTED else reader.announced_bytes
        if not self._share.settle(held, announced):
            self._stop(_BUDGET)
        if reader.mid_frame:
            if self._partial_tick is None:
                self._partial_tick = self.factory.tick
        else:
            self._partial_tick = None
        if self._ready:
            self._flush()

    def _give_up(self, why: str, farewell: Sequence[Part]) -> None:
        """Answer what was asked before the fault, say farewell, close."""
        if self._why is None:
            self._why = why
        self._stop(_CLOSING)
        self._stopped &= ~_WAITING
        last = Answer(self, 0)
        last.parts = tuple(farewell)
        self._answer_bytes += total_length(farewell)
        self._slots.append(last)
        self._input_closed = True
        self._flush()
        self._close_when_done()

    # --- answers ---

    def _filled(self, slot: Answer, parts: Sequence[Part]) -> None:
        self._answer_bytes += total_length(parts)
        if not self._flushing:
            self._may_flush(slot)

    def _may_flush(self, slot: Answer) -> None:
        """Have what is filled sent at the end of the turn, if nothing is owed before it."""
        if self._slots and self._slots[0] is slot:
            self._flushing = True
            self.factory.flush_soon(self)
        elif self._answer_bytes > FREE_BYTES and not self.closed:
            self._weigh()

    def flush(self) -> None:
        """Send what is ready and take up again what waited for it; called once a turn."""
        self._flushing = False
        if self.closed:
            return
        self._flush()
        if self._answer_bytes > FREE_BYTES:
            self._weigh()
        held = self.reader.held_bytes + self._parked_bytes + self._unanswered_bytes
        if held != self._share.charged_bytes or self._stopped:
            self._settle()
            if self._stopped & _ANSWERS and self._answer_bytes <= self.factory.output_buffer_bytes:
                self._go(_ANSWERS)
            if self._stopped & _SLOTS and len(self._slots) * 2 < self.max_unanswered:
                self._go(_SLOTS)
        if self._input_closed:
            self._close_when_done()

    def _flush(self) -> None:
        """Send answers that nothing precedes."""
        output, ready, slots = self._output, self._ready, self._slots
        while slots and (parts := slots[0].parts) is not None:
            ready.extend(parts)
            self._unanswered_bytes -= slots.popleft().size_bytes
        if output is None or not ready:
            return
        self._ready = []
        left = self._answer_bytes - total_length(ready) if slots else 0
        self.counts.sent_bytes += self._answer_bytes - left
        self._answer_bytes = left
        output.send(ready)
        pending = output.pending_bytes
        if pending or self._is_weighed or output.held_bytes:
            self._weigh()
            if pending > self.factory.output_buffer_bytes:
                if not self._stopped & _OUTPUT:
                    self.counts.met("limits.output_buffer_bytes")
                self._stop(_OUTPUT)
            elif pending > FREE_BYTES and self._unread.is_over:
                self._stop(_OUTPUT)

    def _weigh(self) -> None:
        if not self._stopped & _CLOSING:
            self._is_weighed = self._unread.note(self)

    def unread(self) -> tuple[int, int]:
        """For ``Unread``: how many bytes of answers are held, and how many have gone that had to wait."""
        output = self._output
        if output is None or self.closed:
            return self._answer_bytes, 0
        return self._answer_bytes + output.held_bytes, output.moved_bytes

    def _close_when_done(self) -> None:
        if self._input_closed and not (self._slots or self._stopped & _WAITING or self.closed):
            self._stop(_CLOSING)
            self._flush()
            self._close_output()

    def _close_output(self) -> None:
        if self._output is not None:
            self._output.close()
            if isinstance(self._output, StockOutput):
                self.dataReceived = _pass_over  # type: ignore[method-assign]

    # --- flow control ---

    @property
    def output_is_full(self) -> bool:
        """Whether so much waits to be sent that nothing more should be made for now."""
        return bool(self._stopped & _OUTPUT)

    def _stop(self, reason: int) -> None:
        if not self._stopped and self.transport is not None and not self.closed:
            self.transport.pauseProducing()  # type: ignore[attr-defined]
        self._stopped |= reason

    def _go(self, reason: int) -> None:
        self._stopped &= ~reason
        if self.closed:
            return
        if not self._stopped & _BUT_BUDGET:
            self._pump()
        if self._input_closed:
            self._close_when_done()
        elif not (self._stopped or self.closed) and self.transport is not None:
            self.transport.resumeProducing()  # type: ignore[attr-defined]

    def _take_up(self) -> None:
        if self._stopped & _TURN:
            self._go(_TURN)

    def _unmute(self) -> None:
        self._muted = None
        if self._stopped & _MUTED:
            # What it had asked of the budget was taken back meanwhile; reading on asks anew.
            self._go(_MUTED | _BUDGET)

    def _turned_away(self) -> None:
        self._muted = None
        self._close_output()

    def _unpark(self) -> None:
        if self._pumping:
            self.broker.reactor.callLater(0, self._unpark)
        elif not self.closed and self._stopped & _PARKED:
            self._go(_PARKED)

    def _budget_has_room(self) -> None:
        self.broker.reactor.callLater(0, self._go_within_budget)

    def _go_within_budget(self) -> None:
        if self._stopped & _BUDGET and not self.closed:
            self._go(_BUDGET)

    def output_drained(self) -> None:
        """The output is empty again."""
        if self._is_weighed:
            self._weigh()
        if self._stopped & _OUTPUT:
            self._go(_OUTPUT)

    def output_failed(self, reason: str) -> None:
        """The output cannot go on."""
        self.abort(reason)

    @property
    def _unproven_seconds(self) -> int:
        seconds: int = self.broker.settings.limits.unauthenticated_seconds
        return seconds

    def sweep(self, tick: int, partial_seconds: int, idle_seconds: int) -> None:
        """Close the connection if one of its deadlines has passed; called about once a second."""
        if self._stopped & _WAITING & ~(_BUDGET | _OUTPUT) and self._partial_tick is not None:
            # It is we who do not read. Waiting for the budget counts all the same, else peers that begin
            # frames and never finish them would have their deadlines one after the other; and so does a
            # peer that does not read, else it could keep for ever what its frame has reserved.
            self._partial_tick = tick
        if self._unproven_tick is not None and tick - self._unproven_tick > self._unproven_seconds:
            self.counts.met("limits.unauthenticated_seconds")
            what = "complete the TLS handshake" if self._is_secure is False else "authenticate"
            self.abort(f"the peer did not {what} within {self._unproven_seconds} s")
        elif self._partial_tick is not None and tick - self._partial_tick > partial_seconds:
            self.counts.met("limits.partial_frame_seconds")
            self.abort(f"a frame stayed incomplete for {partial_seconds} s")
        elif self._input_closed and tick - self.active_tick > partial_seconds:
            self.abort(f"not everything could be sent within {partial_seconds} s of closing")
        elif (
            idle_seconds
            and not (self._slots or self._ready or self.idle_exempt)
            and tick - self.active_tick > idle_seconds
        ):
            self.counts.met("limits.idle_seconds")
            self.close()


def _pass_over(data: object) -> None:
    """Take nothing more of what the peer sends: its connection is being closed, or gone."""
