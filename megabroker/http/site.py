"""From a request to its answer: who may ask, who asks, which route, what it takes, what came of it.

Owns the order of these checks and the rendering of whatever comes of them. Everything that goes wrong is a
problem with a code; what was not foreseen is logged with its cause, and the client is told no more than that.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.errors import BrokerError, ErrorCode
from megabroker.http.authentication import identify
from megabroker.http.caller import Caller
from megabroker.http.guarding import Guard, is_loopback
from megabroker.http.problems import PROBLEM_TYPE, Problem, described, of_error
from megabroker.http.reading import read_body, read_parameters
from megabroker.http.routes import Answer, Call, Route, Router
from megabroker.http.waiting import LARGE_BYTES, in_thread
from megabroker.model import Principal

if TYPE_CHECKING:
    from megabroker.http.channel import Exchange
    from megabroker.http.listening import HttpFactory

__all__ = ["Site", "make_site"]

_log = Logger()

_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "megabroker",
}
_PREFLIGHT_SECONDS: Final = "600"


def make_site(factory: HttpFactory) -> Site:
    """Return what answers, all of it or just how the process does."""
    from megabroker.http.api import all_routes, health_routes

    if not factory.serves_all:
        return Site(factory, health_routes())
    routes = all_routes()
    if factory.settings.console:
        from megabroker.http.console.routes import console_routes

        routes = [*routes, *console_routes(factory, routes)]
    return Site(factory, routes)


class Site:
    """See the module.

    Args:
        routes: all that there is.
    """

    def __init__(self, factory: HttpFactory, routes: Iterable[Route]) -> None:
        self._factory = factory
        if factory.serves_all:
            self._router = Router(routes)
        else:
            first = factory.inside.broker.placement.controller().id
            self._router = Router(
                routes, f"/livez, /readyz or /metrics, as the API is at node {first}'s port"
            )

    @property
    def _guard(self) -> Guard:
        settings = self._factory.settings
        return Guard(
            settings.allowed_hosts,
            settings.allowed_origins,
            not settings.allowed_hosts and not is_loopback(self._factory.bound),
        )

    def serve(self, exchange: Exchange) -> None:
        """Answer a request."""
        done = Deferred.fromCoroutine(self._serve(exchange))
        exchange.work = done
        done.addErrback(self._unforeseen, exchange)
        done.addCallback(lambda _: exchange.let_go())
        self._factory.work_began(done)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            answer = await self._answered(exchange)
        except CancelledError:
            if exchange.is_over:
                return
            stopping = Problem(503, ErrorCode.SHUTTING_DOWN, "the broker is stopping", retriable=True)
            answer = _of_problem(stopping)
        except Exception:  # noqa: BLE001 - the connection edge: logged, and the client told no more
            _log.failure("http {asked} from {peer}", asked=_asked(exchange), peer=exchange.channel.peer)
            failed = Problem(500, ErrorCode.INTERNAL, "internal error; see the broker's log")
            answer = _of_problem(failed)
        await self._send(exchange, answer)

    @staticmethod
    def _unforeseen(failure: Failure, exchange: Exchange) -> None:
        if not failure.check(CancelledError):  # type: ignore[no-untyped-call]
            _log.failure(
                "http {asked} from {peer}", failure, asked=_asked(exchange), peer=exchange.channel.peer
            )
        if not exchange.is_over:
            exchange.channel.abort("its answer could not be sent, see above")

    async def _answered(self, exchange: Exchange) -> Answer:
        """Return the answer, or what tells of the problem in the manner of the route."""
        try:
            return await self._answer(exchange)
        except (Problem, BrokerError) as error:
            problem = of_error(error) if isinstance(error, BrokerError) else error
            if exchange.manner is None:
                return _of_problem(problem)
            return await exchange.manner.refuse(problem, exchange.header, exchange.uri.decode("latin-1"))

    # --- the checks, in order -----------------------------------------------------------------------

    async def _answer(self, exchange: Exchange) -> Answer:
        guard, host = self._guard, exchange.header("Host")
        guard.check_host(host)
        path, query = _target(exchange.uri)
        method = exchange.method.decode("latin-1")
        if method == "OPTIONS":
            return self._options(guard, exchange, path)
        route, values = self._router.find(method, path)
        exchange.route, exchange.manner = (route.method, route.path), route.manner
        if route.changes:
            guard.check_origin(host, exchange.header("Origin"), exchange.header("Sec-Fetch-Site"))
        caller = await self._caller(exchange, route)
        in_path, in_query = read_parameters(route, values, query)
        route.permit(caller, in_path)
        body = await self._body(exchange, route)
        exchange.may_wait = route.waits
        result = route.handle(Call(caller, in_path, in_query, body, route, exchange.header))
        if hasattr(result, "__await__"):
            result = await result
        if isinstance(result, Answer):
            return result
        return Answer(route.status, b"" if result is None else _json(result))

    async def _body(self, exchange: Exchange, route: Route) -> Any:
        content_type, data = exchange.header("Content-Type"), exchange.content.getvalue()
        if len(data) < LARGE_BYTES:
            return read_body(route, content_type, data)
        reactor = self._factory.inside.broker.reactor
        return await in_thread(reactor, read_body, route, content_type, data)

    async def _caller(self, exchange: Exchange, route: Route) -> Caller:
        factory, channel = self._factory, exchange.channel
        principal: Principal = channel.certified
        if route.manner is not None and not route.is_open:
            principal = await route.manner.identify(exchange.header, principal, channel.peer_host)
        elif not route.is_open:
            principal = await identify(
                factory.inside.broker,
                _authorization(exchange),
                principal,
                channel.peer_host,
                needed=factory.authenticates,
            )
        channel.principal = principal
        return Caller(factory.inside, principal, channel.peer_host)

    def _options(self, guard: Guard, exchange: Exchange, path: str) -> Answer:
        """Say what can be done at an address; to other pages too, if they may do it."""
        try:
            self._router.find("", path)
        except Problem as problem:
            allowed = problem.headers.get("Allow")
            if allowed is None:
                raise
        assert allowed is not None
        headers = {"Allow": allowed}
        origin = exchange.header("Origin")
        if origin is not None and guard.allows(origin):
            headers |= {
                "Access-Control-Allow-Methods": allowed,
                "Access-Control-Allow-Headers": "Authorization, Content-Type",
                "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
            }
        return Answer(204, headers=headers)

    # --- the answer ---------------------------------------------------------------------------------

    async def _send(self, exchange: Exchange, answer: Answer) -> None:
        if exchange.is_over:
            return
        headers = {**_ALWAYS, **answer.headers}
        origin = exchange.header("Origin")
        if origin is not None and self._guard.allows(origin):
            headers |= {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        body = answer.body
        if body != b"":
            headers["Content-Type"] = answer.content_type
        if isinstance(body, bytes) and answer.status != 204:
            headers["Content-Length"] = str(len(body))
        exchange.head(answer.status, headers)
        self._factory.answers[(*exchange.route, answer.status)] += 1
        self._log_request(exchange, answer)
        if isinstance(body, bytes):
            exchange.send(body)
        else:
            await _pass_on(exchange, body, self._factory.settings.request_seconds)
        exchange.end()

    def _log_request(self, exchange: Exchange, answer: Answer) -> None:
        seconds = self._factory.inside.broker.reactor.seconds() - exchange.began
        _log.debug(
            "http {asked} from {peer} ({principal}): {status} after {milliseconds} ms",
            asked=_asked(exchange),
            peer=exchange.channel.peer,
            principal=str(exchange.channel.principal),
            status=answer.status,
            milliseconds=round(seconds * 1000),
        )


@implementer(IPushProducer)
class _Flow:
    """Says when more of an answer may be sent."""

    def __init__(self) -> None:
        self._waiting: Deferred[None] | None = None
        self._is_paused = False

    def pauseProducing(self) -> None:
        """IPushProducer."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """IPushProducer."""
        self._is_paused = False
        self.stopProducing()

    def stopProducing(self) -> None:
        """IPushProducer."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def room(self, reactor: Any, seconds: float) -> None:
        """Wait until there is room. Raises DeferredTimeout."""
        if self._is_paused:
            self._waiting = Deferred()
            self._waiting.addTimeout(seconds, reactor)
            await self._waiting


async def _pass_on(exchange: Exchange, pieces: AsyncIterator[bytes], seconds: float) -> None:
    """Send pieces as the client takes them; ends when it is gone."""
    flow, reactor = _Flow(), exchange.channel.factory_of.inside.broker.reactor
    exchange.flows(flow)
    try:
        async for piece in pieces:
            if exchange.is_over:
                break
            exchange.send(piece)
            await flow.room(reactor, seconds)
    except DeferredTimeout:
        exchange.channel.abort("the peer takes no answer")
    finally:
        exchange.flows(None)
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()


def _of_problem(problem: Problem) -> Answer:
    return Answer(problem.status, _json(described(problem)), PROBLEM_TYPE, problem.headers)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _asked(exchange: Exchange) -> str:
    return f"{exchange.method.decode('latin-1')[:20]} {exchange.uri.decode('latin-1')[:200]}"


def _authorization(exchange: Exchange) -> str | None:
    found = exchange.requestHeaders.getRawHeaders(b"Authorization", [])
    if len(found) > 1:
        raise Problem(
            400,
            ErrorCode.INVALID_REQUEST,
            f"the header Authorization is there {len(found)} times: expected it once",
        )
    return str(found[0].decode("latin-1")) if found else None


def _target(uri: bytes) -> tuple[str, str]:
    """Return path and query of what was asked for. Raises Problem."""
    try:
        text = uri.decode("ascii")
        if not text.startswith("/"):
            parts = urlsplit(text)
            if parts.scheme not in ("http", "https"):
                raise ValueError("no path")
            return parts.path or "/", parts.query
    except ValueError:
        raise Problem(
            400, ErrorCode.INVALID_REQUEST, "the address cannot be read: expected a path that begins with /"
        ) from None
    path, _, query = text.partition("?")
    return path, query.partition("#")[0]
