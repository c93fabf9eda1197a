"""One page being asked for: who looks, what they may see, and what is made of it.

Owns what all pages share: the log-in, the tokens of forms, what stands around a page's content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from megabroker.errors import BrokerError, ErrorCode
from megabroker.http.authentication import identify
from megabroker.http.caller import Caller
from megabroker.http.console.asking import Api
from megabroker.http.console.history import Histories, History
from megabroker.http.console.rendering import HEADERS, Rendering, address, static_files
from megabroker.http.console.sessions import FormTokens, Session, Sessions
from megabroker.http.problems import Problem, described, of_error
from megabroker.http.routes import Answer, Call, Headers, Route
from megabroker.model import ANONYMOUS, Principal

if TYPE_CHECKING:
    from megabroker.http.listening import HttpFactory

__all__ = ["LOGIN", "SAID", "Console", "View", "local_path"]

LOGIN: Final = "/console/login"
_COOKIE: Final = "megabroker-session"
_MOST_LAGS: Final = 200
_MOST_TOPICS: Final = 2000
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class _Item(NamedTuple):
    """One entry of the navigation; there for whoever may send a request to the API."""

    section: str
    path: str
    label: str
    request: str
    key: str


_NAVIGATION: Final = (
    _Item("overview", "/console", "Overview", "", "o"),
    _Item("topics", "/console/topics", "Topics", "GET /v1/topics", "t"),
    _Item("groups", "/console/groups", "Groups", "GET /v1/groups", "g"),
    _Item("connections", "/console/connections", "Connections", "GET /v1/connections", "c"),
    _Item("transactions", "/console/transactions", "Transactions", "GET /v1/transactions", "x"),
    _Item("users", "/console/users", "Users", "GET /v1/users", "u"),
    _Item("rules", "/console/rules", "Access rules", "GET /v1/acls", "a"),
    _Item("quotas", "/console/quotas", "Quotas", "GET /v1/quotas", "q"),
    _Item("plugins", "/console/plugins", "Plugins", "GET /v1/plugins", "p"),
    _Item("configuration", "/console/configuration", "Configuration", "GET /v1/configuration", "f"),
    _Item("log", "/console/log", "Log levels", "GET /v1/loggers", "l"),
)

SAID: Final[Mapping[str, str]] = MappingProxyType(
    {
        "topic-created": "The topic is there.",
        "topic-deleted": "The topic and its messages are deleted.",
        "topic-grown": "The topic has more partitions.",
        "truncated": "The messages below that offset are deleted.",
        "saved": "It is saved, and in force.",
        "produced": "The message is stored.",
        "group-deleted": "The group and its offsets are deleted.",
        "group-reset": "The group goes on from there.",
        "closed": "The connection is closed.",
        "aborted": "The transaction is aborted.",
        "user-saved": "The user can log in with that password.",
        "user-deleted": "The user is let in no more.",
        "rule-created": "The rule is in force.",
        "rule-deleted": "The rule is removed.",
        "logged-in": "You are logged in.",
        "logged-out": "You are logged out.",
    }
)
"""What is said after something was done, by what the address says of it."""


class Console:
    """What all pages have in common; how the routes know who looks (``Manner``).

    Args:
        api: the routes of the API.
    """

    def __init__(self, factory: HttpFactory, api: Sequence[Route]) -> None:
        broker = factory.inside.broker
        self.factory = factory
        self.api = Api(api)
        self.static = static_files()
        self.rendering = Rendering(broker.reactor, self.static)
        self.sessions = Sessions(broker.reactor.seconds, broker.credentials.of)
        self.tokens = FormTokens(broker.reactor.seconds)
        self.throughput = History(broker.reactor.seconds)
        self.lags: Histories[History] = Histories(self._history, _MOST_LAGS)
        self.topics: Histories[History] = Histories(self._history, _MOST_TOPICS)

    def _history(self) -> History:
        return History(self.factory.inside.broker.reactor.seconds)

    # --- who looks ---

    def session(self, headers: Headers) -> Session | None:
        """Return the log-in that a browser shows."""
        wanted = self._cookie_name(headers)
        for part in (headers("Cookie") or "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == wanted:
                return self.sessions.find(value, self.factory.settings.session_seconds)
        return None

    @staticmethod
    def _cookie_name(headers: Headers) -> str:
        """Return the name of the cookie, with the port in it: browsers send one to all ports of a host."""
        port = (headers("Host") or "").rpartition(":")[2]
        return f"{_COOKIE}-{port}" if port.isascii() and port.isdigit() else _COOKIE

    def cookie(self, headers: Headers, value: str) -> str:
        """Return a header that has the browser keep a session, or with no value forget it."""
        seconds = self.factory.settings.session_seconds if value else 0
        secure = "; Secure" if self.factory.tls is not None else ""
        return (
            f"{self._cookie_name(headers)}={value}; Path=/; Max-Age={seconds}; HttpOnly; "
            f"SameSite=Strict{secure}"
        )

    async def identify(self, headers: Headers, certified: Principal, host: str) -> Principal:
        """Manner: whoever has logged in, or says who it is as clients of the API do."""
        session = self.session(headers)
        if session is not None:
            return session.principal
        return await identify(
            self.factory.inside.broker,
            headers("Authorization"),
            certified,
            host,
            needed=self.factory.authenticates,
        )

    async def refuse(self, problem: Problem, headers: Headers, uri: str) -> Answer:
        """Manner: a page that tells of it, or the form to log in."""
        if problem.status == 401 and headers("Authorization") is None:
            where = address(LOGIN, next=local_path(uri))
            if headers("HX-Request"):
                return Answer(401, headers={**HEADERS, "HX-Redirect": where})
            return Answer(303, headers={**HEADERS, "Location": where})
        await self.rendering.ready()
        session = self.session(headers)
        answer = self.rendering.page(
            "problem.html",
            problem.status,
            problem=described(problem),
            principal=None if session is None else str(session.principal),
            can_log_in=self.can_log_in and session is None,
        )
        return Answer(answer.status, answer.body, answer.content_type, {**answer.headers, **problem.headers})

    @property
    def can_log_in(self) -> bool:
        """Whether there is anything to log in by."""
        return self.factory.inside.broker.authentication is not None


class View:
    """One page being asked for.

    Attributes:
        caller: who looks.
        session: its log-in; None if it says who it is otherwise, or is nobody in particular.
        error: why what it has sent was refused.
    """

    def __init__(self, console: Console, call: Call) -> None:
        self.console = console
        self.call = call
        self.caller: Caller = call.caller
        self.session = console.session(call.headers)
        self.error: Problem | None = None

    # --- what was asked ---

    def query(self, name: str) -> str:
        """Return a parameter of the address; nothing if it is not there."""
        return str(self.call.query.get(name) or "").strip()

    def form(self, name: str, default: str = "") -> str:
        """Return what was entered into a field of the form."""
        body = self.call.body
        return str(body.get(name, default)) if isinstance(body, dict) else default

    def number(self, name: str, label: str, text: str) -> int | None:
        """Return a number that was entered, None for nothing. Raises Problem: it is none."""
        text = text.strip()
        if not text:
            return None
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise Problem(
                400, ErrorCode.INVALID_REQUEST, f"{label} is {text[:50]!r}: expected a whole number"
            )
        return int(text)

    # --- what may be seen and done ---

    def may(self, request: str, **path: str) -> bool:
        """Say whether the API would take a request; nothing of it is logged."""
        return self.console.api.may(self.caller, request, path)

    async def ask(
        self,
        request: str,
        path: Mapping[str, Any] = _NOTHING,
        query: Mapping[str, Any] = _NOTHING,
        body: Any = None,
    ) -> Any:
        """Ask the API; see ``Api.ask``."""
        return await self.console.api.ask(self.caller, request, path, query, body)

    async def ask_page(
        self, request: str, rows: int, path: Mapping[str, Any] = _NOTHING, **query: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Ask the API for that page of a list which the address names; return it, and where one can go on.

        Args:
            rows: how many a page has.
        """
        token = self.query("page") or None
        found = await self.ask(request, path, {**query, "limit": rows, "page_token": token})
        return found, {"following": found["next_page_token"], "is_first": token is None}

    @property
    def principal(self) -> str | None:
        """Who looks; None for nobody in particular."""
        return None if self.caller.principal == ANONYMOUS else str(self.caller.principal)

    @property
    def can_log_in(self) -> bool:
        """Whether the page offers it."""
        return self.console.can_log_in and self.session is None

    @property
    def navigation(self) -> list[_Item]:
        """Return where one can go from here; nowhere before a log-in that is needed."""
        if self.console.factory.authenticates and self.principal is None:
            return []
        return [one for one in _NAVIGATION if not one.request or self.may(one.request)]

    # --- forms ---

    @property
    def _whom(self) -> str:
        if self.session is not None:
            return self.session.token
        return f"{self.caller.principal}\0{self.caller.host}"

    @cached_property
    def token(self) -> str:
        """What the forms of this page carry."""
        return self.console.tokens.make(self._whom)

    def check_token(self) -> None:
        """Raise Problem unless the form that was sent is one of this broker's, for whoever sends it."""
        if not self.console.tokens.holds(self.form("token"), self._whom):
            raise Problem(
                403,
                ErrorCode.INVALID_REQUEST,
                "this form is from before a restart of the broker or from another session: expected a "
                "current one. Go back, reload the page and send it again",
            )

    # --- what is answered ---

    async def page(self, template: str, section: str, **values: Any) -> Answer:
        """Return a page; where something was refused, with its status and why."""
        await self.console.rendering.ready()
        error = None if self.error is None else described(self.error)
        return self.console.rendering.page(
            template,
            200 if self.error is None else self.error.status,
            view=self,
            section=section,
            error=error,
            said=SAID.get(self.query("said")),
            **values,
        )

    @staticmethod
    def to(path: str, **query: Any) -> Answer:
        """Return what sends the browser to another page after something was done."""
        return Answer(303, headers={**HEADERS, "Location": address(path, **query)})

    async def part(self, request: str, path: Mapping[str, Any] = _NOTHING, **query: Any) -> Any:
        """Return what the API answers, for a part of a page; None where that may not be seen."""
        if not self.may(request, **path):
            return None
        return await self.ask(request, path, query)

    def refused(self, error: Problem | BrokerError) -> None:
        """Take note of why what was sent is refused."""
        self.error = of_error(error) if isinstance(error, BrokerError) else error


def local_path(text: str) -> str:
    """Return an address if it is one of the console's pages, else that of the first."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/console"
    is_local = not parts.scheme and not parts.netloc and "\\" not in text and text.isprintable()
    is_page = parts.path == "/console" or parts.path.startswith("/console/")
    return text if is_local and is_page and not parts.path.startswith(LOGIN) else "/console"
