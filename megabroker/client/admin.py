"""A client of the broker's HTTP API, on Twisted and treq (the extra ``admin``).

    client = AdminClient("http://127.0.0.1:8090", user="alice", password="...")
    topic = await client.create_topic("orders", partitions=4)

Every method returns a Deferred of JSON as the API has it (``/v1/openapi.json``): an object as a dict, a list
as a list with all its pages. A Deferred fails with an ``AdminError`` of the kind that says what to do, and
may be cancelled. Requests are not repeated: whoever asked knows whether that would do harm.

Knows nothing of the broker's inside.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import quote, urlencode

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, DNSLookupError
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed

try:
    import treq
    from treq.client import HTTPClient
except ModuleNotFoundError as error:
    if error.name != "treq":
        raise
    raise ModuleNotFoundError(
        "treq is not installed: expected the extra admin (pip install 'megabroker[admin]')", name="treq"
    ) from None

__all__ = [
    "AdminClient",
    "AdminError",
    "BadRequest",
    "Conflict",
    "NotAllowed",
    "NotAuthenticated",
    "NotFound",
    "Unavailable",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_LONGEST_ANSWER_BYTES: Final = 64 << 20
_MOST_ROWS: Final = 1000


class AdminError(Exception):
    """The broker has refused or failed.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        code: the broker's code, such as ``unknown-topic``.
        detail: what was wrong, and what would be right.
        retriable: whether the same request may succeed later.
        errors: all that was wrong with a request: where, what was found, what was expected.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retriable: bool = False,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.retriable = retriable
        self.errors = tuple(errors)


class BadRequest(AdminError):
    """The request is wrong, and stays so."""


class NotAuthenticated(AdminError):
    """The broker wants to know who asks, or does not believe it."""


class NotAllowed(AdminError):
    """Whoever asks may not do this."""


class NotFound(AdminError):
    """There is no such thing."""


class Conflict(AdminError):
    """It does not fit the present state: something exists already, or is in use."""


class Unavailable(AdminError):
    """The broker cannot do it now, or was not reached; what was asked may have been done."""


_KINDS: Final[Mapping[int, type[AdminError]]] = {
    400: BadRequest,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: BadRequest,
    415: BadRequest,
    421: BadRequest,
    422: BadRequest,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}


def _deferred(method: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Deferred[_T]]:
    """Make a method that is a coroutine return a Deferred, which when cancelled fails with CancelledError."""

    @wraps(method)
    def started(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        is_cancelled = False

        def cancel(_: Deferred[_T]) -> None:
            nonlocal is_cancelled
            is_cancelled = True
            working.cancel()

        def over(result: Any) -> None:
            if not is_cancelled:  # whatever a cancelled request came to
                done.callback(result)

        done: Deferred[_T] = Deferred(cancel)
        working = Deferred.fromCoroutine(method(*args, **kwargs))
        working.addBoth(over)
        return done

    return started


def _at(*parts: object) -> str:
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


class AdminClient:
    """See the module.

    Args:
        url: where the broker is, without a path.
        user: who asks, with ``password``.
        token: of an identity provider, in the place of these.
        timeout_seconds: how long an answer may take, beside what it was asked to wait.
        agent: makes the connections, for instance with a certificate; one of its own by default.
        reactor: the global one by default.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8090",
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        timeout_seconds: float = 30.0,
        agent: Any = None,
        reactor: Any = None,
    ) -> None:
        if (user is None) != (password is None):
            raise ValueError("expected user and password, or neither")
        if user is not None and token is not None:
            raise ValueError("expected a password or a token, not both")
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._url = url.rstrip("/")
        self._auth = None if user is None or password is None else (user, password)
        self._headers: dict[bytes | str, bytes | str] = {"Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout_seconds = timeout_seconds
        self._pool: HTTPConnectionPool | None = None
        if agent is None:
            self._pool = HTTPConnectionPool(reactor)  # type: ignore[no-untyped-call]
            agent = Agent(reactor, pool=self._pool)  # type: ignore[no-untyped-call]
        self._http = HTTPClient(agent)

    def close(self) -> Deferred[None]:
        """Close the connections that are kept; fires when they are."""
        if self._pool is None:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        return self._pool.closeCachedConnections()  # type: ignore[no-any-return, no-untyped-call]

    # --- asking -----------------------------------------------------------------------------------------

    async def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        wait_ms: int = 0,
    ) -> Any:
        """Send a request; return the JSON of the answer. Raises AdminError."""
        given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        url = f"{self._url}{path}" + (f"?{urlencode(given)}" if given else "")
        seconds = self._timeout_seconds + wait_ms / 1000
        exchange = Deferred.fromCoroutine(self._exchange(method, url, body))
        try:
            status, content = await exchange.addTimeout(seconds, self._reactor, _timed_out)
        except DeferredTimeout as error:
            detail = f"{self._url}: no answer within {seconds:g} seconds"
            raise Unavailable(0, "timed-out", detail, retriable=True) from error
        except (ConnectError, ConnectionDone, ConnectionLost, DNSLookupError, ResponseFailed) as error:
            raise Unavailable(0, "unreachable", f"{self._url}: {error or type(error).__name__}") from error
        return _result(status, content)

    async def _exchange(self, method: str, url: str, body: Any) -> tuple[int, bytes]:
        """Return status and content of an answer."""
        headers = dict(self._headers)
        data = None
        if method in ("POST", "PUT", "PATCH"):
            headers["Content-Type"] = "application/json"
            data = json.dumps({} if body is None else body).encode()
        answer = await self._http.request(method, url, headers=headers, data=data, auth=self._auth)
        return answer.code, await self._read(answer)

    @staticmethod
    def _read(answer: Any) -> Deferred[bytes]:
        """Collect an answer, unless it is too large."""
        pieces: list[bytes] = []
        size = 0

        def take(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > _LONGEST_ANSWER_BYTES:
                raise AdminError(answer.code, "internal", f"more than {_LONGEST_ANSWER_BYTES} bytes came")
            pieces.append(piece)

        collected: Deferred[Any] = treq.collect(answer, take)
        return collected.addCallback(lambda _: b"".join(pieces))

    async def _pages(
        self, path: str, query: Mapping[str, Any] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield all pages, without the token of the next."""
        wanted = {**(query or {}), "limit": _MOST_ROWS}
        token: str | None = None
        while True:
            before = token
            page = await self._ask("GET", path, query={**wanted, "page_token": token})
            if not isinstance(page, dict) or "next_page_token" not in page:
                raise AdminError(200, "internal", f"{path}: an answer that is no page of a list")
            token = page.pop("next_page_token")
            yield page
            if token is None:
                return
            if token == before:
                raise AdminError(200, "internal", f"{path}: a page that is followed by itself")

    async def _list(self, path: str, name: str, query: Mapping[str, Any] | None = None) -> list[Any]:
        """Return the rows of all pages."""
        return [row async for page in self._pages(path, query) for row in page[name]]

    # --- the broker -------------------------------------------------------------------------------------

    @_deferred
    async def describe_broker(self) -> dict[str, Any]:
        """Return what the broker is, and its nodes."""
        return await self._ask("GET", _at("broker"))  # type: ignore[no-any-return]

    @_deferred
    async def list_plugins(self) -> list[dict[str, Any]]:
        """Return the installed protocols."""
        return (await self._ask("GET", _at("plugins")))["plugins"]  # type: ignore[no-any-return]

    @_deferred
    async def describe_configuration(self) -> dict[str, Any]:
        """Return the configuration that is in force, and what is worth a warning in it."""
        return await self._ask("GET", _at("configuration"))  # type: ignore[no-any-return]

    @_deferred
    async def is_ready(self) -> bool:
        """Say whether clients are served; False where nobody is reached."""
        try:
            await self._ask("GET", "/readyz")
        except Unavailable:
            return False
        return True

    # --- topics -----------------------------------------------------------------------------------------

    @_deferred
    async def list_topics(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return the topics, by name."""
        return await self._list(_at("topics"), "topics", {"prefix": prefix})

    @_deferred
    async def create_topic(
        self,
        name: str,
        *,
        partitions: int | None = None,
        configs: Mapping[str, str] | None = None,
        validate_only: bool = False,
    ) -> dict[str, Any] | None:
        """Make a topic; fires when it serves, with None if it was only checked."""
        body = {
            "name": name,
            "partitions": partitions,
            "configs": dict(configs or {}),
            "validate_only": validate_only,
        }
        return await self._ask("POST", _at("topics"), body)  # type: ignore[no-any-return]

    @_deferred
    async def describe_topic(self, name: str) -> dict[str, Any]:
        """Return a topic."""
        return await self._ask("GET", _at("topics", name))  # type: ignore[no-any-return]

    @_deferred
    async def delete_topic(self, name: str) -> None:
        """Delete a topic and its data."""
        await self._ask("DELETE", _at("topics", name))

    @_deferred
    async def list_partitions(self, topic: str) -> list[dict[str, Any]]:
        """Return the partitions of a topic: offsets, sizes, leaders."""
        return await self._list(_at("topics", topic, "partitions"), "partitions")

    @_deferred
    async def create_partitions(
        self, topic: str, partitions: int, *, validate_only: bool = False
    ) -> dict[str, Any] | None:
        """Grow a topic to so many partitions."""
        body = {"partitions": partitions, "validate_only": validate_only}
        return await self._ask("POST", _at("topics", topic, "partitions"), body)  # type: ignore[no-any-return]

    @_deferred
    async def truncate(self, topic: str, partition: int, before_offset: int | None) -> int:
        """Delete what lies below an offset, None for all; fires with the first offset that is left."""
        path = _at("topics", topic, "partitions", partition, "truncate")
        found = await self._ask("POST", path, {"before_offset": before_offset})
        return int(found["start_offset"])

    # --- messages ---------------------------------------------------------------------------------------

    @_deferred
    async def produce(
        self,
        topic: str,
        value: Any = None,
        *,
        key: Any = None,
        partition: int | None = None,
        headers: Sequence[Mapping[str, Any]] = (),
        timestamp_ms: int | None = None,
        key_encoding: str = "text",
        value_encoding: str = "text",
    ) -> dict[str, Any]:
        """Store a message; fires with where it is, when it is as durable as the broker promises."""
        body = {
            "key": key,
            "key_encoding": key_encoding,
            "value": value,
            "value_encoding": value_encoding,
            "partition": partition,
            "headers": [dict(one) for one in headers],
            "timestamp_ms": timestamp_ms,
        }
        return await self._ask("POST", _at("topics", topic, "messages"), body)  # type: ignore[no-any-return]

    @_deferred
    async def read_messages(
        self,
        topic: str,
        partition: int,
        *,
        offset: int | None = None,
        timestamp_ms: int | None = None,
        begin: str = "earliest",
        limit: int = 100,
        wait_ms: int = 0,
        key: str | None = None,
        key_encoding: str = "auto",
        value_encoding: str = "auto",
    ) -> dict[str, Any]:
        """Return messages of a partition, and the offset at which to go on."""
        query = {
            "offset": offset,
            "timestamp_ms": timestamp_ms,
            "from": begin,
            "limit": limit,
            "wait_ms": wait_ms,
            "key": key,
            "key_encoding": key_encoding,
            "value_encoding": value_encoding,
        }
        path = _at("topics", topic, "partitions", partition, "messages")
        return await self._ask("GET", path, query=query, wait_ms=wait_ms)  # type: ignore[no-any-return]

    # --- groups -----------------------------------------------------------------------------------------

    @_deferred
    async def list_groups(self, *, state: str | None = None, type: str | None = None) -> list[dict[str, Any]]:
        """Return the groups, by name."""
        return await self._list(_at("groups"), "groups", {"state": state, "type": type})

    @_deferred
    async def describe_group(self, name: str) -> dict[str, Any]:
        """Return a group and its members."""
        pages = [page async for page in self._pages(_at("groups", name))]
        return {**pages[-1], "members": [member for page in pages for member in page["members"]]}

    @_deferred
    async def delete_group(self, name: str) -> None:
        """Delete a group without members."""
        await self._ask("DELETE", _at("groups", name))

    @_deferred
    async def list_group_offsets(self, name: str) -> list[dict[str, Any]]:
        """Return how far a group is in each partition."""
        return await self._list(_at("groups", name, "offsets"), "offsets")

    @_deferred
    async def reset_group_offsets(
        self,
        name: str,
        to: str,
        *,
        topics: Mapping[str, Sequence[int] | None] | None = None,
        offset: int | None = None,
        timestamp_ms: int | None = None,
        by: int | None = None,
        dry_run: bool = False,
    ) -> list[dict[str, Any]]:
        """Have a group without members go on elsewhere; return where.

        Args:
            to: earliest, latest, offset, timestamp or shift.
            topics: partitions by topic, None for all of one; by default what the group has offsets of.
        """
        wanted = None
        if topics is not None:
            wanted = [
                {"topic": topic, "partitions": None if indexes is None else list(indexes)}
                for topic, indexes in topics.items()
            ]
        body = {
            "to": to,
            "topics": wanted,
            "offset": offset,
            "timestamp_ms": timestamp_ms,
            "by": by,
            "dry_run": dry_run,
        }
        found = await self._ask("POST", _at("groups", name, "offsets", "reset"), body)
        return found["offsets"]  # type: ignore[no-any-return]

    @_deferred
    async def delete_group_offsets(self, name: str, topic: str) -> None:
        """Have a group forget how far it is in a topic."""
        await self._ask("DELETE", _at("groups", name, "offsets", topic))

    # --- configurations ---------------------------------------------------------------------------------

    async def _configs(self, path: str) -> dict[str, dict[str, Any]]:
        rows = (await self._ask("GET", path))["configs"]
        return {row["name"]: row for row in rows}

    @_deferred
    async def topic_configs(self, topic: str) -> dict[str, dict[str, Any]]:
        """Return the configurations of a topic, by name."""
        return await self._configs(_at("topics", topic, "configs"))

    @_deferred
    async def alter_topic_configs(
        self, topic: str, configs: Mapping[str, str | None], *, validate_only: bool = False
    ) -> None:
        """Set configurations of a topic; None has what holds otherwise take effect again."""
        body = {"configs": dict(configs), "validate_only": validate_only}
        await self._ask("PATCH", _at("topics", topic, "configs"), body)

    @_deferred
    async def group_configs(self, group: str) -> dict[str, dict[str, Any]]:
        """Return the configurations of a group, by name."""
        return await self._configs(_at("groups", group, "configs"))

    @_deferred
    async def alter_group_configs(
        self, group: str, configs: Mapping[str, str | None], *, validate_only: bool = False
    ) -> None:
        """Set configurations of a group."""
        body = {"configs": dict(configs), "validate_only": validate_only}
        await self._ask("PATCH", _at("groups", group, "configs"), body)

    @_deferred
    async def broker_configs(self) -> dict[str, dict[str, Any]]:
        """Return what of the broker can be changed while it runs, by name."""
        return await self._configs(_at("broker", "configs"))

    @_deferred
    async def alter_broker_configs(
        self, configs: Mapping[str, str | None], *, for_all: bool = True, validate_only: bool = False
    ) -> None:
        """Set configurations of the broker, for all nodes or the one that answers."""
        body = {"configs": dict(configs), "for_all": for_all, "validate_only": validate_only}
        await self._ask("PATCH", _at("broker", "configs"), body)

    # --- transactions -----------------------------------------------------------------------------------

    @_deferred
    async def list_transactions(self, *, state: str | None = None) -> list[dict[str, Any]]:
        """Return the transactional ids."""
        return await self._list(_at("transactions"), "transactions", {"state": state})

    @_deferred
    async def describe_transaction(self, transactional_id: str) -> dict[str, Any]:
        """Return where a transactional id stands."""
        return await self._ask("GET", _at("transactions", transactional_id))  # type: ignore[no-any-return]

    @_deferred
    async def abort_transaction(self, transactional_id: str) -> dict[str, Any]:
        """Abort the open transaction of an id; its producer is fenced."""
        path = _at("transactions", transactional_id, "abort")
        return await self._ask("POST", path)  # type: ignore[no-any-return]

    # --- users, rules, quotas ---------------------------------------------------------------------------

    @_deferred
    async def list_users(self) -> list[dict[str, Any]]:
        """Return the users who have a password."""
        return await self._list(_at("users"), "users")

    @_deferred
    async def describe_user(self, name: str) -> dict[str, Any]:
        """Return a user."""
        return await self._ask("GET", _at("users", name))  # type: ignore[no-any-return]

    @_deferred
    async def set_password(
        self,
        name: str,
        password: str,
        *,
        mechanisms: Sequence[str] = ("SCRAM-SHA-256", "SCRAM-SHA-512"),
        iterations: int = 4096,
    ) -> dict[str, Any]:
        """Give a user a password; whoever is not there is made."""
        body = {"password": password, "mechanisms": list(mechanisms), "iterations": iterations}
        return await self._ask("PUT", _at("users", name), body)  # type: ignore[no-any-return]

    @_deferred
    async def delete_user(self, name: str) -> None:
        """Let a user in no more."""
        await self._ask("DELETE", _at("users", name))

    @_deferred
    async def list_acls(self, **wanted: str) -> list[dict[str, Any]]:
        """Return access rules; ``wanted`` are fields of the rules that are meant."""
        return await self._list(_at("acls"), "acls", wanted)

    @_deferred
    async def create_acls(self, acls: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """Make access rules; return them as they are kept."""
        found = await self._ask("POST", _at("acls"), {"acls": [dict(one) for one in acls]})
        return found["acls"]  # type: ignore[no-any-return]

    @_deferred
    async def delete_acls(self, **wanted: str) -> int:
        """Remove access rules; return how many. Without a filter it is refused, but for ``all="true"``."""
        return int((await self._ask("DELETE", _at("acls"), query=wanted))["deleted"])

    @_deferred
    async def list_quotas(self) -> list[dict[str, Any]]:
        """Return the quotas that are set."""
        return await self._list(_at("quotas"), "quotas")

    @_deferred
    async def set_quotas(
        self,
        entity: Mapping[str, str | None],
        quotas: Mapping[str, float | None],
        *,
        validate_only: bool = False,
    ) -> dict[str, Any]:
        """Set the quotas of somebody; those that are not named are removed.

        Args:
            entity: names by ``user``, ``client-id`` or ``ip``; None for all without a quota of their own.
        """
        body = {
            "entity": [{"type": kind, "name": name} for kind, name in entity.items()],
            "quotas": dict(quotas),
            "validate_only": validate_only,
        }
        return await self._ask("PUT", _at("quotas"), body)  # type: ignore[no-any-return]

    # --- connections and the log ------------------------------------------------------------------------

    @_deferred
    async def list_connections(
        self, *, protocol: str | None = None, listener: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the connections of clients."""
        query = {"protocol": protocol, "listener": listener}
        return await self._list(_at("connections"), "connections", query)

    @_deferred
    async def close_connection(self, connection: str) -> None:
        """Close a connection, by its id."""
        await self._ask("DELETE", _at("connections", connection))

    @_deferred
    async def log_levels(self) -> dict[str, str]:
        """Return the level of each logger; root stands for all."""
        rows = await self._list(_at("loggers"), "loggers")
        return {row["logger"]: row["level"] for row in rows}

    @_deferred
    async def set_log_level(self, level: str | None, logger: str = "root") -> None:
        """Have a logger write events of a level and above; None goes back to those around it."""
        await self._ask("PUT", _at("loggers", logger), {"level": level})


def _timed_out(result: Any, seconds: float) -> Any:
    """Have what was cancelled for its time say so, whatever it came to."""
    raise DeferredTimeout(seconds, "Deferred")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _result(status: int, content: bytes) -> Any:
    """Return the JSON of an answer. Raises AdminError."""
    found, is_json = None, True
    try:
        found = json.loads(content) if content else None
    except (ValueError, RecursionError):
        is_json = False
    if is_json and 200 <= status < 300:
        return found
    if not isinstance(found, dict) or "code" not in found:
        raise AdminError(status, "internal", f"an answer with status {status} that is not megabroker's")
    raise _KINDS.get(status, AdminError)(
        status,
        str(found["code"]),
        str(found.get("detail", "")),
        retriable=bool(found.get("retriable")),
        errors=found.get("errors") or (),
    )
