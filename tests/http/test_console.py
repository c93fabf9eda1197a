"""The console without a browser: who may see and do what, forms of others refused, everything escaped."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from megabroker.http.console.pages import PAGES
from megabroker.http.waiting import in_slices
from tests.brokers import BrokerProcess
from tests.http.asking import Api, Reply

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}\u202egnp.exe'
_PATHS = [page.path for page in PAGES if page.method == "GET" and not page.is_open]
_FORMS = [page.path for page in PAGES if page.method == "POST"]


class Visitor:
    """Somebody who looks at pages, with a cookie perhaps."""

    def __init__(self, port: int, user: str | None = None) -> None:
        self.port = port
        self.api = Api(port, user)
        self.cookie = ""

    def get(self, path: str, **headers: str) -> Reply:
        """Look at a page."""
        return self._ask("GET", path, None, headers)

    def post(self, path: str, token: str | None = None, **fields: str) -> Reply:
        """Send a form, with a token of the page it is on unless another is given."""
        if token is None:
            token = self.token()
        body = urlencode({"token": token, **fields}).encode()
        return self._ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})

    def token(self, path: str = "/console/login") -> str:
        """Return the token of a form."""
        found = re.search(r'name="token" value="([^"]+)"', self.get(path).body.decode())
        assert found is not None, path
        return found[1]

    def log_in(self, name: str, password: str) -> Reply:
        """Log in, as a browser does; keeps the cookie."""
        reply = self.post("/console/login", user=name, password=password, next="/console/topics")
        self.cookie = reply.headers.get("Set-Cookie", "").partition(";")[0]
        return reply

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        sent = {**headers, **({"Cookie": self.cookie} if self.cookie else {})}
        return self.api.ask(method, path, body, sent)


class Places(HTMLParser):
    """Collects what a browser would take for elements and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """HTMLParser."""
        self.texts.append(data)

    def check(self) -> None:
        """Nothing runs, and nothing is loaded from elsewhere."""
        for tag, attributes in self.tags:
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            assert "style" not in attributes
            assert tag not in ("style", "iframe", "object", "base")
            for name in ("src", "href", "action", "hx-get", "data-tail", "data-series"):
                value = attributes.get(name)
                assert value is None or value.startswith(("/", "#")), (tag, attributes)


@pytest.fixture(scope="module")
def guarded() -> Iterator[BrokerProcess]:
    """A broker with access rules: root may do everything, bob may see one topic."""
    config: dict[str, Any] = {
        "durability": "os",
        "security": {"authorizer": "acls", "super_users": ["User:ANONYMOUS", "User:root"]},
        "http": {"authentication": "none"},
    }
    broker = BrokerProcess(config)
    with broker:
        api = Api(broker.http_ports[0])
        for user in ("root", "bob"):
            api.put(f"/v1/users/{user}", {"password": f"{user}-password"})
        for topic in ("bobs", "secret"):
            api.post("/v1/topics", {"name": topic, "partitions": 2})
            api.post(f"/v1/topics/{topic}/messages", {"value": f"in {topic}", "partition": 0})
        rules = [("topic", "bobs", "read"), ("topic", "bobs", "describe")]
        api.post(
            "/v1/acls",
            {
                "acls": [
                    {"principal": "User:bob", "operation": what, "resource_type": kind, "resource": name}
                    for kind, name, what in rules
                ]
            },
        )
        broker.config["http"]["authentication"] = "required"
        broker.config["security"]["super_users"] = ["User:root"]
        broker.restart()
        yield broker
        assert broker.stop() == 0
        assert "Traceback" not in broker.log, broker.log[-5000:]


@pytest.fixture(scope="module")
def root(guarded: BrokerProcess) -> Visitor:
    """Somebody who may do everything."""
    visitor = Visitor(guarded.http_ports[0])
    assert visitor.log_in("root", "root-password").status == 303
    return visitor


@pytest.fixture(scope="module")
def bob(guarded: BrokerProcess) -> Visitor:
    """Somebody who may see one topic."""
    visitor = Visitor(guarded.http_ports[0])
    assert visitor.log_in("bob", "bob-password").status == 303
    return visitor


def _filled(path: str, topic: str) -> str:
    query = {
        "/console/group": "?group=team",
        "/console/group/lag": "?group=team",
        "/console/topics/{topic}/message": "?partition=0&offset=0",
        "/console/topics/{topic}/value": "?partition=0&offset=0",
    }
    return path.replace("{topic}", topic) + query.get(path, "")


# --- who may see what ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", _PATHS)
def test_nobody_in_particular_is_asked_to_log_in(guarded: BrokerProcess, path: str) -> None:
    anybody = Visitor(guarded.http_ports[0])
    reply = anybody.get(_filled(path, "secret"))
    assert reply.status == 303
    assert reply.headers["Location"].startswith("/console/login?next=%2Fconsole")
    assert reply.body == b""
    assert anybody.get(_filled(path, "secret"), **{"HX-Request": "true"}).status == 401
    assert anybody.get(_filled(path, "secret"), Authorization="Basic x").status == 401


@pytest.mark.parametrize("path", [path for path in _PATHS if path != "/console"])
def test_who_may_not_see_does_not(bob: Visitor, path: str) -> None:
    """A denial says so kindly; lists have what may be seen."""
    reply = bob.get(_filled(path, "secret"))
    if path in ("/console/topics", "/console/groups", "/console/transactions"):
        assert reply.status == 200
    else:
        assert reply.status == 403, reply
        assert "may not" in reply.body.decode()
        assert "User:bob" in reply.body.decode()
    assert "in secret" not in reply.body.decode()
    assert ">secret<" not in reply.body.decode()


def test_the_overview_shows_what_may_be_seen(bob: Visitor, root: Visitor) -> None:
    seen, all_of_it = bob.get("/console").body.decode(), root.get("/console").body.decode()
    assert "You may not see how the broker does" in seen
    assert "data-series" not in seen
    assert "data-series" in all_of_it
    assert 'href="/console/users"' not in seen
    assert 'href="/console/users"' in all_of_it


def test_what_may_be_seen_is(bob: Visitor) -> None:
    assert ">bobs</a>" in bob.get("/console/topics").body.decode()
    assert "in bobs" in bob.get("/console/topics/bobs/messages").body.decode()
    page = bob.get("/console/topics/bobs").body.decode()
    assert "/produce" not in page
    assert "/settings" not in page


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/console/topics", {"name": "new"}),
        ("/console/topics/bobs/produce", {"value": "x"}),
        ("/console/topics/bobs/configs", {"name": "retention.ms", "value": "1"}),
        ("/console/topics/bobs/grow", {"partitions": "5"}),
        ("/console/topics/bobs/truncate", {"partition": "0", "offset": "1", "confirm": "bobs"}),
        ("/console/topics/bobs/delete", {"confirm": "bobs"}),
        ("/console/group/preview", {"group": "team", "to": "earliest", "topic": "bobs"}),
        ("/console/group/reset", {"group": "team", "to": "earliest", "topic": "bobs"}),
        ("/console/group/delete", {"group": "team", "confirm": "team"}),
        ("/console/connections", {"connection": "x"}),
        ("/console/transactions", {"transactional_id": "x"}),
        ("/console/configuration", {"name": "log.retention.ms", "value": "1"}),
        ("/console/log", {"logger": "root", "level": "debug"}),
        ("/console/users", {"user": "bob", "password": "x", "again": "x"}),
        ("/console/users", {"user": "root", "do": "delete"}),
        (
            "/console/rules",
            {
                "principal": "User:bob",
                "operation": "all",
                "resource_type": "cluster",
                "resource": "kafka-cluster",
            },
        ),
        ("/console/quotas", {"user": "bob", "producer_byte_rate": "1"}),
    ],
)
def test_who_may_not_do_does_not(bob: Visitor, root: Visitor, path: str, fields: dict[str, str]) -> None:
    reply = bob.post(path, **fields)
    assert reply.status == 403, reply
    assert "may not" in reply.body.decode()
    assert root.get("/console/topics/new").status == 404
    assert root.get("/console/topics/bobs").body.decode().count('scope="row"') == 2


def test_every_form_is_in_that_table() -> None:
    pytestmark: Any = test_who_may_not_do_does_not.pytestmark  # type: ignore[attr-defined]
    tried = {path.replace("bobs", "{topic}") for path, _ in pytestmark[0].args[1]}
    assert tried | {"/console/login", "/console/logout"} == set(_FORMS)


# --- forms of others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", _FORMS)
def test_forms_without_their_token_are_refused(root: Visitor, bob: Visitor, path: str) -> None:
    path = path.replace("{topic}", "bobs")
    fields = {"confirm": "bobs", "name": "new", "user": "root", "password": "root-password"}
    for token in ("", "x", "9999999999.00", bob.token()):
        reply = root.post(path, token, **fields)
        assert reply.status == 403, (path, token)
        assert "form is from before a restart of the broker" in reply.body.decode()
    assert root.get("/console/topics/bobs").status == 200


def test_forms_of_other_pages_are_refused(root: Visitor) -> None:
    token = root.token()
    body = urlencode({"token": token, "confirm": "bobs"}).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": root.cookie}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
    ):
        reply = root.api.ask("POST", "/console/topics/bobs/delete", body, {**form, **headers})
        assert reply.status in (403, 415), headers
    assert root.get("/console/topics/bobs").status == 200


# --- sessions -----------------------------------------------------------------------------------------------


def test_the_cookie(guarded: BrokerProcess) -> None:
    visitor = Visitor(guarded.http_ports[0])
    reply = visitor.log_in("bob", "bob-password")
    cookie = reply.headers["Set-Cookie"]
    assert re.fullmatch(
        rf"megabroker-session-{visitor.port}=[\w-]{{43}}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict",
        cookie,
    )
    assert reply.headers["Location"] == "/console/topics"
    assert visitor.get("/console/topics").status == 200
    reply = visitor.post("/console/logout")
    assert (reply.status, reply.headers["Location"]) == (303, "/console/login?said=logged-out")
    assert "Max-Age=0" in reply.headers["Set-Cookie"]
    assert visitor.get("/console/topics").status == 303


def test_a_wrong_password(guarded: BrokerProcess) -> None:
    visitor = Visitor(guarded.http_ports[0])
    for user, password in (("bob", "wrong"), ("nobody", "x"), (HOSTILE, "x"), ("", "")):
        reply = visitor.log_in(user, password)
        assert reply.status == 401
        assert "Set-Cookie" not in reply.headers
        assert "uthentication failed" in reply.body.decode()
        Places(reply.body.decode()).check()
    assert "refused: http client from 127.0.0.1" in guarded.log


def test_sessions_end_with_the_password(guarded: BrokerProcess, root: Visitor) -> None:
    assert root.post("/console/users", user="carl", password="one", again="one").status == 303
    carl = Visitor(guarded.http_ports[0])
    carl.log_in("carl", "one")
    assert carl.get("/console/topics").status == 200
    assert root.post("/console/users", user="carl", password="two", again="three").status == 400
    assert carl.get("/console/topics").status == 200
    assert root.post("/console/users", user="carl", password="two", again="two").status == 303
    assert carl.get("/console/topics").status == 303
    assert carl.log_in("carl", "two").status == 303
    assert root.post("/console/users", user="carl", do="delete").status == 303
    assert carl.get("/console/topics").status == 303


def test_basic_is_taken_as_well(guarded: BrokerProcess) -> None:
    visitor = Visitor(guarded.http_ports[0], "bob:bob-password")
    assert visitor.get("/console/topics").status == 200
    assert visitor.get("/console/topics/secret").status == 403
    assert Visitor(guarded.http_ports[0], "bob:wrong").get("/console/topics").status == 401


# --- what every answer says to browsers ---------------------------------------------------------------------


def test_browsers_are_kept_to_the_page(root: Visitor) -> None:
    for path in ("/console", "/console/topics/bobs", "/console/nothing", "/console/login"):
        headers = root.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "style-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
    other = root.api.ask("GET", "/console", headers={"Host": "evil.example", "Cookie": root.cookie})
    assert other.status == 421


def test_files_are_kept_by_browsers_while_they_are_the_same(root: Visitor) -> None:
    page = root.get("/console").body.decode()
    files = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page)
    assert len(files) >= 6
    for file in files:
        reply = root.get(file)
        assert (reply.status, reply.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    assert root.get("/console/static/console.css?v=old").headers["Cache-Control"] == "no-store"
    for wrong in ("..%2Fview.py", "../view.py", "README.md", "", "htmx.LICENSE"):
        assert root.get(f"/console/static/{wrong}").status == 404
    assert root.get("/").headers["Location"] == "/console"


# --- everything is escaped ----------------------------------------------------------------------------------


def test_hostile_content_is_text(root: Visitor) -> None:
    """Messages, keys, headers, names of groups, users, quotas, rules: none of it becomes part of a page."""
    root.api.headers["Cookie"] = root.cookie
    assert root.post("/console/topics", name="hostile", partitions="1").status == 303
    reply = root.post(
        "/console/topics/hostile/produce",
        key=HOSTILE,
        value=HOSTILE,
        headers=f"{HOSTILE.replace(':', '')}: {HOSTILE}",
    )
    assert reply.headers["Location"].startswith("/console/topics/hostile/produce?said=produced"), reply
    at = reply.headers["Location"]
    root.post("/console/users", user=HOSTILE, password="x", again="x")
    root.post("/console/quotas", user=HOSTILE, client_id=HOSTILE, producer_byte_rate="5")
    root.post(
        "/console/rules",
        principal=f"User:{HOSTILE}",
        operation="read",
        resource_type="group",
        resource=HOSTILE,
        permission="allow",
    )
    reset = root.post("/console/group/reset", group=HOSTILE, to="earliest", topic="hostile")
    assert reset.status == 303, reset
    group = urlencode({"group": HOSTILE})
    quoted = urlencode({"prefix": HOSTILE, "protocol": HOSTILE, "state": HOSTILE, "page": ""})
    for path in (
        at,
        "/console/topics/hostile/messages",
        "/console/topics/hostile/message?partition=0&offset=0",
        "/console/topics/hostile/message?partition=0&offset=0&as=text",
        f"/console/topics/hostile/messages?{urlencode({'key': HOSTILE, 'time': HOSTILE, 'offset': HOSTILE})}",
        f"/console/topics?{quoted.split('&')[0]}",
        f"/console/transactions?{quoted.split('&')[2]}",
        "/console/groups",
        f"/console/group?{group}",
        "/console/users",
        "/console/quotas",
        "/console/rules",
        "/console/configuration",
        f"/console/login?{urlencode({'next': HOSTILE})}",
        f"/console/{HOSTILE.encode().hex()}%22%3E%3Cscript%3E",
    ):
        html = root.get(path).body.decode()
        places = Places(html)
        places.check()
        assert [tag for tag, _ in places.tags].count("script") <= 4, path
        assert not any(tag == "img" and attributes["src"] == "x" for tag, attributes in places.tags), path
        assert "\u202e" not in html.partition('<input type="hidden"')[0], path
    messages = root.get("/console/topics/hostile/messages").body.decode()
    assert HOSTILE.replace("\u202e", "\u27e8U+202E\u27e9") in "".join(Places(messages).texts)
    preview = root.post("/console/group/preview", group=HOSTILE, to="latest").body.decode()
    Places(preview).check()
    assert root.post("/console/group/delete", group=HOSTILE, confirm=HOSTILE).status == 303


def test_large_values_are_cut_and_downloaded_whole(root: Visitor) -> None:
    root.post("/console/topics", name="large", partitions="1")
    value = "<script>" * 120_000
    root.post("/console/topics/large/produce", value=value)
    page = root.get("/console/topics/large/message?partition=0&offset=0").body.decode()
    assert len(page) < 300_000
    assert "938 KiB" in page
    assert "<script>alert" not in page
    assert len(root.get("/console/topics/large/messages").body) < 20_000
    reply = root.get("/console/topics/large/value?partition=0&offset=0")
    assert reply.body.decode() == value
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Content-Disposition"] == 'attachment; filename="large-0-0.value"'
    assert root.get("/console/topics/large/value?partition=0&offset=0&part=key").status == 404


# --- what was wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("/console/topics", {"name": "a b"}, "1 to 249"),
        ("/console/topics", {"name": "ok", "partitions": "many"}, "expected a whole number"),
        ("/console/topics", {"name": "ok", "configs": "retention.ms"}, "expected name=value"),
        ("/console/topics", {"name": "bobs"}, "bobs"),
        ("/console/topics/bobs/grow", {"partitions": "1"}, "partitions"),
        ("/console/topics/bobs/delete", {"confirm": "bob"}, "expected its name"),
        ("/console/topics/bobs/configs", {"name": "retention.ms", "value": "long"}, "long"),
        ("/console/topics/bobs/produce", {"value": "{", "encoding": "json"}, "the value is not JSON"),
        ("/console/topics/bobs/produce", {"value": "!", "encoding": "base64"}, "base64"),
        ("/console/topics/bobs/produce", {"headers": "none"}, "expected name: value"),
        ("/console/topics/bobs/produce", {"partition": "77"}, "partitions 0 to 1"),
        ("/console/users", {"user": "x", "password": "a", "again": "b"}, "not the same"),
        ("/console/quotas", {"producer_byte_rate": "1"}, "no entity"),
        ("/console/quotas", {"user": "x", "producer_byte_rate": "fast"}, "expected a number"),
        ("/console/quotas", {"user": "x", "producer_byte_rate": "nan"}, "expected a number"),
        ("/console/quotas", {"user": "x", "producer_byte_rate": "1_000"}, "expected a number"),
        ("/console/quotas", {"user": "x", "producer_byte_rate": "1" + "0" * 60}, "expected a number"),
        ("/console/rules", {"principal": "bob"}, "User:alice"),
        ("/console/configuration", {"name": "no.such", "value": "1"}, "no.such"),
        ("/console/log", {"logger": "no.such", "level": "info"}, "no logger"),
        ("/console/log", {"logger": "root", "level": ""}, "needs a level"),
    ],
)
def test_forms_say_what_was_wrong(root: Visitor, path: str, fields: dict[str, str], said: str) -> None:
    """On the page of the form, with what was entered still there."""
    reply = root.post(path, **fields)
    assert 400 <= reply.status < 500, reply
    html = reply.body.decode()
    assert 'role="alert"' in html
    assert said.lower() in "".join(Places(html).texts).lower()
    if path != "/console/log":
        assert "</form>" in html
    if path == "/console/topics":
        assert f'value="{fields["name"]}"' in html


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("partition=9", "expected 0 to 1"),
        ("partition=x", "expected a whole number"),
        ("offset=5", "expected a partition too"),
        ("partition=0&offset=5", "offset 5"),
        ("time=yesterday", "expected one such as"),
    ],
)
def test_searches_say_what_was_wrong(root: Visitor, query: str, said: str) -> None:
    reply = root.get(f"/console/topics/bobs/messages?{query}")
    assert reply.status == 400
    assert said.lower() in "".join(Places(reply.body.decode()).texts).lower()


def test_what_there_is_not(root: Visitor) -> None:
    for path in ("/console/nothing", "/console/topics/none", "/console/group?group=none"):
        reply = root.get(path)
        assert reply.status == 404, path
        assert reply.headers["Content-Type"].startswith("text/html")
    assert root.get("/console/group").status == 400
    assert root.get("/console/topics?page=x").status == 400
    assert root.get("/console/topics?wrong=x").status == 400


# --- messages -----------------------------------------------------------------------------------------------


def test_messages_are_found(root: Visitor) -> None:
    root.post("/console/topics", name="found", partitions="3")
    for number in range(12):
        place = root.post("/console/topics/found/produce", key=f"k{number % 4}", value=f"number {number}")
        assert place.status == 303
    path = "/console/topics/found/messages"
    every = root.get(path).body.decode()
    assert all(f"number {number}<" in every for number in range(12))
    by_key = root.get(f"{path}?key=k1").body.decode()
    assert re.findall(r"number (\d+)<", by_key) == ["1", "5", "9"]
    partition = re.findall(r"message\?partition=(\d)", by_key)[0]
    one = root.get(f"{path}?partition={partition}&offset=1").body.decode()
    assert len(re.findall(r"number \d+<", one)) >= 1
    assert f"offset=0&amp;partition={partition}" in one or "Older" in one
    later = root.get(f"{path}?time=2200-01-01T00:00").body.decode()
    assert "number" not in "".join(re.findall(r"<tbody>.*</tbody>", later, re.DOTALL))
    earlier = root.get(f"{path}?time=2020-01-01T00:00").body.decode()
    assert "number 11<" in earlier


def test_the_tail_has_what_comes(root: Visitor) -> None:
    root.post("/console/topics", name="tailed", partitions="2")
    root.post("/console/topics/tailed/produce", value="before")
    connection = http.client.HTTPConnection("127.0.0.1", root.port, timeout=10)
    connection.request("GET", "/console/topics/tailed/tail/stream", headers={"Cookie": root.cookie})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.readline() == b"retry: 2000\n"
    time.sleep(0.6)
    root.post("/console/topics/tailed/produce", key="k", value=f"after\n\nevent: x\n{HOSTILE}")
    while not (line := answer.readline()).startswith(b"data:"):
        assert line in (b"\n", b"event: messages\n")
    event = json.loads(line.removeprefix(b"data: "))
    assert event["count"] == 1
    assert "before" not in event["html"]
    assert "&lt;script&gt;" in event["html"]
    Places(event["html"]).check()
    connection.close()


def test_the_tail_ends_with_the_session(guarded: BrokerProcess) -> None:
    visitor = Visitor(guarded.http_ports[0])
    visitor.log_in("bob", "bob-password")
    connection = http.client.HTTPConnection("127.0.0.1", visitor.port, timeout=10)
    connection.request("GET", "/console/topics/bobs/tail/stream", headers={"Cookie": visitor.cookie})
    answer = connection.getresponse()
    answer.readline()
    visitor.post("/console/logout")
    assert b"event: over" in answer.read()
    connection.close()


def test_groups_are_moved_after_a_preview(root: Visitor) -> None:
    root.post("/console/topics", name="moved", partitions="1")
    for _ in range(3):
        root.post("/console/topics/moved/produce", value="x")
    where = {"group": "movers", "topic": "moved", "to": "offset", "value": "2", "partitions": "0"}
    preview = root.post("/console/group/preview", **where)
    assert preview.status == 200
    assert "Nothing has been changed yet" in preview.body.decode()
    assert root.get("/console/group?group=movers").status == 404
    assert root.post("/console/group/reset", **where).status == 303
    page = root.get("/console/group?group=movers").body.decode()
    assert re.search(r'<td class="n">2</td>\s*<td class="n">3</td>\s*<td class="n">1</td>', page)
    series = json.loads(root.get("/console/group/lag?group=movers").body)["series"]
    assert series[-1]["lag"] == 1
    assert series[-1]["topic:moved"] == 1
    assert root.post("/console/group/delete", group="movers", confirm="movers").status == 303


# --- counting much -----------------------------------------------------------------------------------------


class Turns(Clock):
    """Takes note of when others have a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []

    def callLater(self, when: float, *call: Any, **named: Any) -> Any:
        """Clock."""
        self.at.append(self.seconds())
        return super().callLater(when, *call, **named)


def test_what_there_is_much_of_is_gone_through_in_slices() -> None:
    """Others have a turn every few milliseconds."""
    clock = Turns()

    async def go() -> int:
        count = 0
        async for _ in in_slices(clock, range(10_000)):
            clock.rightNow += 0.0001
            count += 1
        return count

    gone: list[int] = []
    Deferred.fromCoroutine(go()).addCallback(gone.append)
    while not gone:
        clock.advance(0)
    assert gone == [10_000]
    assert len(clock.at) > 100
    assert max(after - before for before, after in pairwise([0.0, *clock.at])) < 0.008


# --- where there is none ------------------------------------------------------------------------------------


def test_without_a_console() -> None:
    config = {"durability": "os", "storage": "memory", "http": {"console": False}}
    with BrokerProcess(config) as broker:
        visitor = Visitor(broker.http_ports[0])
        assert visitor.get("/console").status == 404
        assert visitor.get("/v1/topics").status == 200
