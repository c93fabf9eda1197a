"""An HTTP/1.1 connection: twisted.web's, with bounds on what it takes and how long.

Owns the bounds. The request line is at most 8 KiB, all headers at most 16 KiB and 100; a body at most
``http.max_body_bytes``, those of all requests together ``limits.in_flight_bytes``. A request that has begun
must be there within ``http.request_seconds``, however its bytes trickle in, and an answer must be taken
within that time of being made. Requests that are sent before the answer of the one before are read one at a
time, the next when that answer has been taken, so that never more than one answer waits. What breaks HTTP is
answered with a problem, and then the connection is closed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from zope.interface import implementer

from megabroker.errors import AuthenticationError, ErrorCode
from megabroker.http.problems import PROBLEM_TYPE, Problem, described
from megabroker.model import ANONYMOUS, Principal

if TYPE_CHECKING:
    from megabroker.http.listening import HttpFactory
    from megabroker.http.routes import Manner
    from megabroker.http.site import Site

__all__ = ["Channel", "Exchange"]

_log = Logger()

_LONGEST_LINE_BYTES: Final = 8 * 1024
_LONGEST_HEADERS_BYTES: Final = 16 * 1024
_MOST_HEADERS: Final = 100
_LINGER_SECONDS: Final = 1.0
"""How long what a refused client still sends is read and thrown away, so that it sees the refusal."""


class Exchange(Request):
    """A request and its answer.

    Attributes:
        is_over: whether nobody waits for the answer any more.
        began: when it had come, in seconds of the reactor.
        may_wait: whether it waits for what may never come, so that the end of the broker ends it.
        route: method and path of the route, for those who count.
        work: what makes the answer.
        manner: that of the route, once that is known.
    """

    channel: Any
    content: BytesIO
    is_over = False
    began = 0.0
    work: Deferred[None] | None = None
    may_wait = False
    route = ("", "")
    manner: Manner | None = None
    _holder: HttpFactory
    _held_bytes = 0

    def gotLength(self, length: int | None) -> None:
        """Request: take a body, unless it is too large."""
        self.content = BytesIO()
        self._most_bytes = self.channel.factory_of.settings.max_body_bytes
        if length is not None and length > self._most_bytes:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """Request: keep some of a body."""
        if self.channel.is_refusing:
            return
        factory = self.channel.factory_of
        if self.content.tell() + len(data) > self._most_bytes:
            self._refuse_body()
        elif factory.held_bytes + len(data) > factory.inside.broker.settings.limits.in_flight_bytes:
            detail = "bodies of all requests together hold limits.in_flight_bytes: expected fewer at a time"
            self.content = BytesIO()
            self.let_go()
            self.channel.refuse(Problem(503, ErrorCode.OVERLOADED, detail, retriable=True))
        else:
            self._holder = factory
            factory.held_bytes += len(data)
            self._held_bytes += len(data)
            self.content.write(data)

    def let_go(self) -> None:
        """Nobody looks at the body any more."""
        if self._held_bytes:
            self._holder.held_bytes -= self._held_bytes
            self._held_bytes = 0

    def _refuse_body(self) -> None:
        detail = f"the body is larger than {self._most_bytes} bytes: expected at most http.max_body_bytes"
        self.channel.refuse(Problem(413, ErrorCode.MESSAGE_TOO_LARGE, detail))

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Request: all of it is there."""
        if self.channel.is_refusing:
            return
        self.method, self.uri, self.clientproto = command, path, version
        self.began = self.channel.factory_of.inside.broker.reactor.seconds()
        self.channel.site.serve(self)

    def header(self, name: str) -> str | None:
        """Return a header; None where it is not there, or there more than once."""
        found = self.requestHeaders.getRawHeaders(name.encode())
        if found is None or len(found) != 1:
            return None
        return str(found[0].decode("latin-1"))

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Say how the answer begins."""
        self.setResponseCode(status)
        for name, value in headers.items():
            self.setHeader(name.encode(), value.encode("latin-1", "replace"))  # type: ignore[no-untyped-call]

    def send(self, data: bytes) -> None:
        """Send some of the answer, unless nobody waits for it."""
        if not self.is_over:
            self.write(data)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """The answer is complete."""
        if not self.is_over:
            self.finish()  # type: ignore[no-untyped-call]

    def flows(self, producer: object | None) -> None:
        """Have somebody told when the client takes no more for now, or nobody any longer."""
        if producer is not None:
            self.registerProducer(producer, True)  # type: ignore[no-untyped-call]
        elif not self.is_over:
            self.unregisterProducer()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        """Request: nobody waits any more."""
        self.is_over = True
        if self.work is None:
            self.let_go()  # else who makes the answer still has it
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.give_up()

    def give_up(self) -> None:
        """Have who makes the answer stop waiting for what may never come; what is being done is done."""
        if self.work is not None and self.may_wait:
            self.work.cancel()


@implementer(IHandshakeListener)
class Channel(HTTPChannel):
    """One connection.

    Attributes:
        peer: the peer's address, for the log.
        peer_host: the same without the port.
        certified: whom the peer's certificate names.
        is_refusing: whether the connection is being closed for what came over it.
    """

    requestFactory = Exchange
    MAX_LENGTH = _LONGEST_LINE_BYTES
    totalHeadersSize = _LONGEST_HEADERS_BYTES
    maxHeaders = _MOST_HEADERS
    transport: Any
    peer = "?"
    peer_host = "?"

    def __init__(self, factory: HttpFactory, site: Site) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.factory_of = factory
        self.site = site
        self.certified: Principal = ANONYMOUS
        self.is_refusing = False
        self.bytes_in = self.bytes_out = 0
        self.requests_taken = 0
        self.principal: Principal = ANONYMOUS
        self._reactor = factory.inside.broker.reactor
        self.callLater = self._reactor.callLater  # type: ignore[method-assign]
        self.timeOut = factory.settings.idle_seconds
        self._deadline: Any = None
        self._held: Any = None  # a request whose answer is complete and not taken
        self._is_finishing = False

    # --- beginning and end ---

    def handshakeCompleted(self) -> None:
        """IHandshakeListener: TLS has come about; the peer is whom its certificate names."""
        tls = self.factory_of.tls
        if tls is not None:
            try:
                self.certified = tls.principal(self.transport.getPeerCertificate())
            except AuthenticationError as error:
                self.abort(error.message)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Protocol: the connection is gone."""
        self._in_time()
        self.is_refusing = True
        tls = self.factory_of.tls
        why = None if tls is None else tls.explain(reason.value)
        if why is not None:
            _log.info("http connection from {peer} ended: {why}", peer=self.peer, why=why)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.factory_of.connection_gone(self)

    def abort(self, why: str) -> None:
        """End at once."""
        _log.info("http connection from {peer} ended: {why}", peer=self.peer, why=why)
        self.is_refusing = True
        self.transport.abortConnection()

    def finish(self) -> None:
        """Take no further request; end when what was asked is answered."""
        self._is_finishing = True
        self.persistent = False
        if not self._handlingRequest:
            self.loseConnection()  # type: ignore[no-untyped-call]
        elif self.requests:  # else its answer, the last, is being taken
            self.requests[0].give_up()

    def timeoutConnection(self) -> None:
        """TimeoutMixin: nothing was asked for long."""
        self.loseConnection()  # type: ignore[no-untyped-call]
        self._within(self.factory_of.settings.request_seconds, "the peer takes no answer")

    # --- taking requests ---

    def dataReceived(self, data: bytes) -> None:
        """Protocol: something came."""
        self.bytes_in += len(data)
        if self.is_refusing:
            return
        if self._deadline is None and not self._handlingRequest:
            self._begin()
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _begin(self) -> None:
        """A request begins, and must be there in time."""
        self._deadline = self._reactor.callLater(self.factory_of.settings.request_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        seconds = self.factory_of.settings.request_seconds
        detail = f"the request was not there after {seconds} seconds: expected all of it by then"
        self.refuse(Problem(408, ErrorCode.TIMED_OUT, detail, retriable=True))

    def _within(self, seconds: float, why: str) -> None:
        self._in_time()
        self._deadline = self._reactor.callLater(seconds, self.abort, why)

    def _in_time(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def allHeadersReceived(self) -> None:
        """HTTPChannel: go on to the body, unless something is wrong by now."""
        request = self.requests[-1]
        if self._version not in (b"HTTP/1.1", b"HTTP/1.0"):
            self._respondToBadRequestAndDisconnect()
            self.length = None
            return
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        if len(hosts) > 1 or (not hosts and self._version == b"HTTP/1.1"):
            self._respondToBadRequestAndDisconnect()
            self.length = None
            return
        super().allHeadersReceived()  # type: ignore[no-untyped-call]
        if self._is_finishing:
            self.persistent = False

    def allContentReceived(self) -> None:
        """HTTPChannel: a request is there."""
        self._in_time()
        if self.is_refusing:
            return
        self.requests_taken += 1
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        """LineReceiver: a line is too long."""
        if self._HTTPChannel__first_line:  # type: ignore[attr-defined]
            detail = f"the address is longer than {_LONGEST_LINE_BYTES} bytes: expected a shorter one"
            self.refuse(Problem(414, ErrorCode.INVALID_REQUEST, detail))
        else:
            self._refuse_headers()

    def lineReceived(self, line: bytes) -> None:
        """LineReceiver: a line of the head."""
        if self.is_refusing:
            return
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self._refuse_headers()
            return
        super().lineReceived(line)  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        """HTTPChannel: one header."""
        if self._receivedHeaderCount >= self.maxHeaders:
            self._refuse_headers()
            return False
        return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]

    def _refuse_headers(self) -> None:
        detail = (
            f"the headers are more than {_MOST_HEADERS}, or {_LONGEST_HEADERS_BYTES} bytes: expected fewer"
        )
        self.refuse(Problem(431, ErrorCode.INVALID_REQUEST, detail))

    def rawDataReceived(self, data: bytes) -> None:
        """LineReceiver: some of a body, or of the request after this one."""
        if not self.is_refusing:
            super().rawDataReceived(data)

    def requestDone(self, request: Any) -> None:
        """HTTPChannel: an answer is complete; go on with what came meanwhile when it has been taken."""
        if self._waitingForTransport and not self._is_finishing:
            self._held = request
            self._within(self.factory_of.settings.request_seconds, "the peer takes no answer")
        else:
            self._go_on(request)

    def resumeProducing(self) -> None:
        """IPushProducer: what was sent has been taken."""
        super().resumeProducing()  # type: ignore[no-untyped-call]
        held, self._held = self._held, None
        if held is not None:
            self._in_time()
            self._go_on(held)

    def _go_on(self, request: Any) -> None:
        if self._is_finishing:
            self.persistent = False
        if self.persistent and self._dataBuffer:
            self._begin()
        elif not self.persistent:
            self._within(self.factory_of.settings.request_seconds, "the peer takes no answer")
        super().requestDone(request)  # type: ignore[no-untyped-call]

    # --- refusing ---

    def _respondToBadRequestAndDisconnect(self) -> None:
        """HTTPChannel: what came is not HTTP."""
        detail = "this is not HTTP/1.1 as RFC 9112 has it: expected a request line, headers, one Host"
        self.refuse(Problem(400, ErrorCode.INVALID_REQUEST, detail))

    def refuse(self, problem: Problem) -> None:
        """Answer with a problem and close, whatever else comes."""
        if self.is_refusing:
            return
        self.is_refusing = True
        self._in_time()
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        _log.info("http connection from {peer} closed: {why}", peer=self.peer, why=problem.detail)
        body = json.dumps(described(problem)).encode()
        self.write(
            f"HTTP/1.1 {problem.status} Refused\r\nContent-Type: {PROBLEM_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        self._deadline = self._reactor.callLater(_LINGER_SECONDS, self._close_refused)

    def _close_refused(self) -> None:
        self._deadline = None
        self.loseConnection()  # type: ignore[no-untyped-call]
        self._within(_LINGER_SECONDS, "the peer takes no answer")

    def _send100Continue(self) -> None:
        """HTTPChannel: have the client send the body, if it will be read."""
        if not self.is_refusing:
            super()._send100Continue()  # type: ignore[no-untyped-call]

    # --- answering ---

    def write(self, data: bytes) -> None:
        """HTTPChannel: send."""
        self.bytes_out += len(data)
        self.transport.write(data)

    def writeSequence(self, iovec: Any) -> None:
        """HTTPChannel: send."""
        for one in iovec:
            self.write(one)
