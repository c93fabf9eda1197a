"""Who may do what over HTTP: the same users and rules as on every wire, over TLS."""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlencode

import jwt
import pytest
import trustme
from confluent_kafka import Consumer
from cryptography.hazmat.primitives.asymmetric import ec

from megabroker.access import CLUSTER_NAME, ResourceType
from megabroker.http.api import all_routes
from megabroker.http.routes import Route
from tests.brokers import BrokerProcess
from tests.http.asking import Api, raw
from tests.interop.certificates import Certificates

_KEY = ec.generate_private_key(ec.SECP256R1())
_NAMES = {
    "topic": "secret",
    "group": "team",
    "transactional_id": "sale",
    "partition": "0",
    "user": "root",
    "connection": "nobody",
    "logger": "root",
}
_ROUTES = {f"{route.method} {route.path}": route for route in all_routes() if not route.is_open}


class Place:
    """The broker, and who asks it."""

    def __init__(self, broker: BrokerProcess, certificates: Certificates) -> None:
        self.broker = broker
        self.certificates = certificates
        self.port = broker.http_ports[0]
        self.admin = Api(self.port, None, certificates.context(certificates.client("alice")))

    def api(self, user: str | None = None) -> Api:
        """Return the API as somebody with a password, or nobody, sees it."""
        return Api(self.port, user, self.certificates.context())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("access")
    certificates = Certificates(directory)
    public = jwt.algorithms.ECAlgorithm.to_jwk(_KEY.public_key(), as_dict=True)
    (directory / "keys.json").write_text(json.dumps({"keys": [{**public, "kid": "one"}]}))
    tls = certificates.tls(
        client_auth="requested",
        client_ca=str(certificates.trusted),
        principal_rules="RULE:^.*CN=([^,]*).*$/$1/,DEFAULT",
    )
    config = {
        "durability": "os",
        "security": {
            "authorizer": "acls",
            "super_users": ["User:alice"],
            "tokens": {"keys": str(directory / "keys.json")},
        },
        "http": {"tls": tls, "authentication": "required"},
    }
    with BrokerProcess(config) as broker:
        found = Place(broker, certificates)
        found.admin.put("/v1/users/bob", {"password": "builder"})
        found.admin.post("/v1/topics", {"name": "secret", "partitions": 1})
        found.admin.post("/v1/topics", {"name": "open", "partitions": 1})
        yield found
        assert broker.stop() == 0
        assert "Traceback" not in broker.log, broker.log[-5000:]


def rules(principal: str, operation: str, resource_type: str, resource: str) -> dict[str, str]:
    return {
        "principal": principal,
        "operation": operation,
        "resource_type": resource_type,
        "resource": resource,
    }


def test_who_nobody_is(place: Place) -> None:
    anybody = place.api()
    assert anybody.ask("GET", "/livez").status == 200
    assert anybody.ask("GET", "/v1/openapi.json").status == 200
    reply = anybody.ask("GET", "/v1/topics")
    assert (reply.status, reply.json["code"]) == (401, "not-authenticated")
    assert reply.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_passwords_tokens_and_certificates(place: Place) -> None:
    assert place.api("bob:builder").ask("GET", "/v1/topics").status == 200
    said = {"sub": "bob", "exp": time.time() + 60}
    token = jwt.encode(said, _KEY, algorithm="ES256", headers={"kid": "one"})
    anybody = place.api()
    assert anybody.ask("GET", "/v1/topics", headers={"Authorization": f"Bearer {token}"}).status == 200
    other = ec.generate_private_key(ec.SECP256R1())
    expired = jwt.encode({**said, "exp": 1}, _KEY, algorithm="ES256", headers={"kid": "one"})
    forged = jwt.encode(said, other, algorithm="ES256", headers={"kid": "one"})
    for header in (
        "Basic",
        "Basic !!!",
        f"Basic {base64.b64encode(b'bob').decode()}",
        f"Basic {base64.b64encode(bytes([0xFF, 58, 0xFF])).decode()}",
        f"Bearer {expired}",
        f"Bearer {forged}",
        "Bearer x",
        "Bearer " + "x" * 8000,
        "Digest username=bob",
        "",
    ):
        refused = anybody.problem("GET", "/v1/topics", Authorization=header)
        assert refused == (401, "not-authenticated"), header
    # A certificate says who somebody is; a header that does as well has the last word.
    assert place.admin.get("/v1/users/bob")["user"] == "bob"
    wrong = place.admin.problem("GET", "/v1/topics", Authorization="Bearer x")
    assert wrong == (401, "not-authenticated")
    assert "refused: http client from 127.0.0.1: wrong name or password" not in place.broker.log
    place.api("bob:wrong").problem("GET", "/v1/topics")
    assert "refused: http client from 127.0.0.1: wrong name or password" in place.broker.log


def test_the_console_over_tls(place: Place) -> None:
    """A certificate is enough; the cookie of a log-in does not go over what is not TLS."""
    page = place.admin.ask("GET", "/console")
    assert page.status == 200
    assert "User:alice" in page.body.decode()
    anybody = place.api()
    found = re.search(r'name="token" value="([^"]+)"', anybody.ask("GET", "/console/login").body.decode())
    assert found is not None
    form = urlencode({"token": found[1], "user": "bob", "password": "builder", "next": "/console/topics"})
    reply = anybody.ask(
        "POST", "/console/login", form.encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert reply.status == 303
    assert reply.headers["Set-Cookie"].endswith("HttpOnly; SameSite=Strict; Secure")


def test_a_refusal_takes_its_time_whatever_was_wrong(place: Place) -> None:
    for user in ("bob:wrong", "nobody:wrong"):
        began = time.monotonic()
        assert place.api(user).problem("GET", "/v1/topics") == (401, "not-authenticated")
        assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("name", sorted(_ROUTES))
def test_every_route_asks_for_its_permission(place: Place, name: str) -> None:
    """Without a rule it is refused or shows nothing; with the one that its table names it is not."""
    route = _ROUTES[name]
    path = route.path.format(**_NAMES)
    bob = place.api("bob:builder")
    if not route.needs:
        _asks_itself(bob, route, path)
        return
    for operation, resource_type, parameter in route.needs:
        code = {
            ResourceType.TOPIC: "topic-not-allowed",
            ResourceType.GROUP: "group-not-allowed",
            ResourceType.TRANSACTIONAL_ID: "transactional-id-not-allowed",
        }.get(resource_type, "cluster-not-allowed")
        assert bob.problem(route.method, path) == (403, code)
        resource = _NAMES[parameter] if parameter else CLUSTER_NAME
        rule = rules("User:bob", operation.name.lower(), resource_type.name.lower(), resource)
        place.admin.post("/v1/acls", {"acls": [rule]})
    try:
        if route.method != "DELETE":  # which would have an effect
            # A body that says nothing: what is asked is looked at only by who may ask.
            reply = bob.ask(route.method, path, {} if route.changes else None)
            assert reply.status not in (401, 403), reply
    finally:
        place.admin.delete("/v1/acls?principal=User:bob")


def _asks_itself(bob: Api, route: Route, path: str) -> None:
    assert route.asks
    if route.method == "GET":
        (rows,) = (value for value in bob.get(path).values() if isinstance(value, list))
        assert rows == []
    else:
        assert path == "/v1/topics"
        assert bob.problem("POST", path, {"name": "secret"}) == (403, "topic-not-allowed")


def test_what_may_be_seen(place: Place) -> None:
    bob = place.api("bob:builder")
    seen = [
        rules("User:bob", "describe", "topic", "open"),
        rules("User:bob", "describe", "group", "readers"),
        rules("User:bob", "read", "group", "readers"),
    ]
    place.admin.post("/v1/acls", {"acls": seen})
    try:
        assert [one["name"] for one in bob.get("/v1/topics")["topics"]] == ["open"]
        everything = {"to": "latest", "topics": [{"topic": "secret"}, {"topic": "open"}]}
        place.admin.post("/v1/groups/readers/offsets/reset", everything)
        assert [one["group"] for one in bob.get("/v1/groups")["groups"]] == ["readers"]
        assert [one["topic"] for one in bob.get("/v1/groups/readers/offsets")["offsets"]] == ["open"]
        moved = bob.problem("POST", "/v1/groups/readers/offsets/reset", everything)
        assert moved == (403, "topic-not-allowed")
        # Whether there is a topic is not told to who may not see it.
        assert bob.problem("GET", "/v1/topics/secret") == bob.problem("GET", "/v1/topics/nowhere")
    finally:
        place.admin.delete("/v1/acls?principal=User:bob")


def test_refusals_and_changes_are_in_the_audit_log(place: Place) -> None:
    place.api("bob:builder").problem("DELETE", "/v1/topics/secret")
    assert "denied: User:bob from 127.0.0.1: DELETE on TOPIC 'secret'" in place.broker.log
    place.admin.post("/v1/topics", {"name": "audited"})
    assert "changed: User:alice from 127.0.0.1: CreateTopics: audited" in place.broker.log


def test_rules_are_made_listed_and_removed(place: Place) -> None:
    admin = place.admin
    rule = rules("User:carol", "write", "topic", "orders-")
    made = admin.ask("POST", "/v1/acls", {"acls": [{**rule, "pattern": "prefixed"}]})
    shown = {**rule, "pattern": "prefixed", "host": "*", "permission": "allow"}
    assert (made.status, made.json["acls"]) == (201, [shown])
    assert admin.get("/v1/acls?principal=User:carol")["acls"] == [shown]
    assert admin.get("/v1/acls?resource=orders-7&pattern=match&resource_type=topic")["acls"] == [shown]
    assert admin.get("/v1/acls?operation=read")["acls"] == []
    wrong = [rule, {**rule, "resource_type": "cluster"}]
    reply = admin.ask("POST", "/v1/acls", {"acls": wrong})
    assert (reply.status, reply.json["errors"][0]["path"]) == (400, "/acls/1")
    assert admin.problem("DELETE", "/v1/acls") == (400, "invalid-request")
    assert admin.delete("/v1/acls?principal=User:carol") == {"deleted": 2}
    assert admin.get("/v1/acls")["acls"] == []


def test_users_come_and_go(place: Place) -> None:
    admin = place.admin
    made = admin.put("/v1/users/dora", {"password": "explorer", "mechanisms": ["SCRAM-SHA-512"]})
    assert made == {"user": "dora", "mechanisms": [{"mechanism": "SCRAM-SHA-512", "iterations": 4096}]}
    assert [one["user"] for one in admin.get("/v1/users")["users"]] == ["bob", "dora"]
    assert place.api("dora:explorer").ask("GET", "/v1/topics").status == 200
    admin.put("/v1/users/dora", {"password": "other"})
    assert place.api("dora:explorer").ask("GET", "/v1/topics").status == 401
    assert place.api("dora:other").ask("GET", "/v1/topics").status == 200
    assert admin.ask("DELETE", "/v1/users/dora").status == 204
    assert place.api("dora:other").ask("GET", "/v1/topics").status == 401
    assert admin.problem("DELETE", "/v1/users/dora") == (404, "invalid-request")
    assert "explorer" not in place.broker.log
    weak = admin.problem("PUT", "/v1/users/dora", {"password": "x", "iterations": 1})
    assert weak == (400, "invalid-request")


def test_who_does_not_speak_tls_is_told_in_the_log(place: Place) -> None:
    raw(place.port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    deadline = time.monotonic() + 5
    while "the peer speaks HTTP" not in place.broker.log and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "the peer speaks HTTP without TLS" in place.broker.log


def test_certificates_that_nobody_has_signed(place: Place) -> None:
    context = place.certificates.context(place.certificates.client("alice-of-others", trustme.CA()))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Api(place.port, None, context).ask("GET", "/livez")


def test_what_a_group_has_of_a_topic_is_told_to_who_may_see_the_topic(place: Place) -> None:
    """Neither by subscription nor by assignment; by either of Kafka's protocols."""
    hidden = {"principal": "User:ANONYMOUS", "operation": "read", "resource": "*"}
    anybody = [{**hidden, "resource_type": kind} for kind in ("topic", "group")]
    place.admin.post("/v1/acls", {"acls": anybody})
    place.admin.post("/v1/acls", {"acls": [rules("User:bob", "describe", "group", "readers")]})
    bob = place.api("bob:builder")
    try:
        for protocol in ("classic", "consumer"):
            settings = {
                "bootstrap.servers": place.broker.kafka,
                "group.id": "readers",
                "group.protocol": protocol,
            }
            with closing(Consumer(settings)) as consumer:
                consumer.subscribe(["secret"])
                deadline = time.monotonic() + 20
                while not consumer.assignment():
                    assert time.monotonic() < deadline
                    consumer.poll(0.1)
                (member,) = place.admin.get("/v1/groups/readers")["members"]
                assert member["topics"] == ["secret"]
                assert member["assignment"] == [{"topic": "secret", "partitions": [0]}]
                (member,) = bob.get("/v1/groups/readers")["members"]
                assert (member["topics"], member["assignment"]) == ([], []), protocol
    finally:
        place.admin.delete("/v1/acls?principal=User:bob")
        place.admin.delete("/v1/acls?principal=User:ANONYMOUS")
