"""Whoever may not do something may not do it by any door, and finds nothing out by trying.

One table: what is done, which rules it needs, and how it is asked for over each wire and over HTTP. For each:
without rules it is refused, in the same words whether what was asked for exists or not; with the rules it is
done, so that what refuses is the lack of them.
"""

from __future__ import annotations

import json
import pathlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from megabroker.cli.main import commands
from megabroker.client.mega import MessageClient
from megabroker.codec.batch import build_single
from tests.brokers import BrokerProcess
from tests.http.asking import Api
from tests.interop.conftest import check_log
from tests.interop.plain_client import PlainClient
from tests.interop.secured import addresses, listener
from tests.interop.wires import CursusWire

pytestmark = pytest.mark.interop

_REFUSED = {
    "kafka": re.compile(r"'error_code': (29|30|31|53)\b"),
    "mega": re.compile(r"TOPIC_NOT_FOUND|INVALID_REQUEST"),
    "cursus": re.compile(r"ERROR: .*(does not exist|not found|there is no topic|is not allowed)"),
    "later": re.compile(r"ERROR: (topic_not_found|NOT_AUTHORIZED_FOR)|{.error.:.(topic_not_found|NOT_AUTH)"),
    "stomp": re.compile(r"ERROR.*(there is no topic|is not allowed)"),
    "http": re.compile(r"^403"),
}
_DONE = {
    "kafka": re.compile(r"(?!.*'error_code': [^0]).*'error_code': 0"),
    "mega": re.compile(r".*'success': True"),
    "cursus": re.compile(r"(?!ERROR)"),
    "later": re.compile(r"(?!ERROR|{.error)"),
    "stomp": re.compile(r"RECEIPT"),
    "http": re.compile(r"^20"),
}

Ask = Callable[["Doors", str], str]


class Doors:
    """A broker, and somebody who asks it without saying who it is."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.kafka_client = PlainClient(addresses(broker)[-1])
        self.mega_client = MessageClient("127.0.0.1", broker.ports["mega"])
        self.mega_client.connect()
        self.api = Api(broker.http_ports[0])
        self.admin = Api(broker.http_ports[0], "admin:admin-secret")

    def close(self) -> None:
        self.kafka_client.close()
        self.mega_client.close()

    def kafka(self, name: str, version: int, values: Mapping[str, Any]) -> str:
        answer = self.kafka_client.ask(name, version, dict(values))
        return re.sub(r"'(error_message|throttle_time_ms)': [^,}]*", "", str(answer))

    def cursus(self, text: str) -> str:
        with CursusWire(self.broker.ports["cursus"]) as wire:
            wire.send("", text.encode())
            return wire.reply().decode("utf-8", "replace")

    def stomp(self, command: str, *headers: str, body: str = "") -> str:
        with socket.create_connection(("127.0.0.1", self.broker.ports["stomp"]), 10) as peer:
            said = "\n".join((command, "receipt:r", *headers, "", body))
            peer.sendall(f"CONNECT\naccept-version:1.2\n\n\0{said}\0".encode())
            found = b""
            while found.count(b"\0") < 2 and (more := peer.recv(65536)):
                found += more
            return found.split(b"\0")[1].decode().strip().replace("\n", " ")

    def http(self, method: str, path: str, body: Any = None) -> str:
        reply = self.api.ask(method, path, body)
        return f"{reply.status} {reply.body.decode()}"

    def allow(self, kind: str, name: str, operation: str) -> None:
        rule = {
            "resource_type": kind,
            "resource": name,
            "principal": "User:ANONYMOUS",
            "operation": operation,
        }
        assert self.admin.ask("POST", "/v1/acls", {"acls": [rule]}).status == 201

    def forbid_all(self) -> None:
        assert self.admin.ask("DELETE", "/v1/acls?all=true").status == 200


# --- what is asked, of a topic, a group or a transactional id of some name ----------------------------------


def _kafka(name: str, version: int, values: Callable[[str], dict[str, Any]]) -> Ask:
    return lambda doors, of: doors.kafka(name, version, values(of))


def _text(template: str) -> Ask:
    return lambda doors, of: doors.cursus(template.format(of))


def _stomp(command: str, *headers: str, body: str = "") -> Ask:
    return lambda doors, of: doors.stomp(command, *(one.format(of) for one in headers), body=body)


def _http(method: str, path: str, body: Any = None) -> Ask:
    def ask(doors: Doors, of: str) -> str:
        filled = None if body is None else json.loads(json.dumps(body).replace("{}", of))
        return doors.http(method, path.format(of), filled)

    return ask


def _produce(of: str) -> dict[str, Any]:
    rows = [{"index": 0, "records": bytes(build_single(None, b"x", 1_700_000_000_000))}]
    return {"acks": 1, "timeout_ms": 1000, "topic_data": [{"name": of, "partition_data": rows}]}


def _fetch(of: str) -> dict[str, Any]:
    rows = [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}]
    return {"max_wait_ms": 0, "min_bytes": 0, "topics": [{"topic": of, "partitions": rows}]}


def _commit(of: str) -> dict[str, Any]:
    rows = [{"partition_index": 0, "committed_offset": 0, "committed_metadata": None}]
    return {"group_id": of, "member_id": "", "topics": [{"name": of, "partitions": rows}]}


def _offsets(of: str) -> dict[str, Any]:
    topics = [{"name": of, "partition_indexes": [0]}]
    return {"groups": [{"group_id": of, "topics": topics}]}


def _made(of: str) -> dict[str, Any]:
    one = {"name": of, "num_partitions": 1, "replication_factor": 1}
    return {"topics": [one], "timeout_ms": 5000}


def _grown(of: str) -> dict[str, Any]:
    return {"topics": [{"name": of, "count": 2, "assignments": None}], "timeout_ms": 5000}


def _configs(kind: int, of: str) -> dict[str, Any]:
    return {"resources": [{"resource_type": kind, "resource_name": of, "configuration_keys": None}]}


def _changed(kind: int, config: str, value: str, of: str) -> dict[str, Any]:
    configs = [{"name": config, "config_operation": 0, "value": value}]
    return {"resources": [{"resource_type": kind, "resource_name": of, "configs": configs}]}


class Row(NamedTuple):
    """Something that can be done.

    Attributes:
        rules: kind of resource and operation; each is about the name asked for, or the cluster.
        asks: how, by door.
        is_new: whether it is done to what is not there yet.
    """

    rules: tuple[tuple[str, str], ...]
    asks: Mapping[str, Ask]
    is_new: bool = False


TOPIC, GROUP, ID, CLUSTER = "topic", "group", "transactional_id", "cluster"

ROWS = {
    "produce": Row(
        ((TOPIC, "write"),),
        {
            "kafka": _kafka("Produce", 9, _produce),
            "mega": lambda doors, of: str(doors.mega_client.produce(of, "x")),
            "cursus": _text("PUBLISH {} x"),
            "later": _text("PUBLISH topic={} producerId=p message=y"),
            "stomp": _stomp("SEND", "destination:/topic/{}", body="z"),
            "http": _http("POST", "/v1/topics/{}/messages", {"value": "x"}),
        },
    ),
    "consume": Row(
        ((TOPIC, "read"), (GROUP, "read")),
        {
            "kafka": _kafka("Fetch", 12, _fetch),
            "mega": lambda doors, of: str(doors.mega_client.consume(of, 0)),
            "cursus": _text("CONSUME {} 0 0"),
            "cursus subscribe": _text("SUBSCRIBE {}"),
            "stomp": _stomp("SUBSCRIBE", "id:1", "destination:/topic/{}"),
            "stomp queue": _stomp("SUBSCRIBE", "id:1", "destination:/queue/{}", "group:{}"),
            "http": _http("GET", "/v1/topics/{}/partitions/0/messages"),
        },
    ),
    "create": Row(
        ((TOPIC, "create"), (TOPIC, "write")),
        {
            "kafka": _kafka("CreateTopics", 7, _made),
            "mega": lambda doors, of: str(doors.mega_client.create_topic(of)),
            "cursus": _text("CREATE {} 1"),
            "later": _text("CREATE topic={} partitions=1"),
            "stomp": _stomp("SEND", "destination:/topic/{}"),
            "http": _http("POST", "/v1/topics", {"name": "{}"}),
        },
        is_new=True,
    ),
    "grow": Row(
        ((TOPIC, "alter"),),
        {
            "kafka": _kafka("CreatePartitions", 3, _grown),
            "cursus": _text("CREATE {} 2"),
            "later": _text("CREATE topic={} partitions=2"),
            "http": _http("POST", "/v1/topics/{}/partitions", {"partitions": 2}),
        },
    ),
    "delete": Row(
        ((TOPIC, "delete"),),
        {
            "kafka": _kafka("DeleteTopics", 5, lambda of: {"topic_names": [of], "timeout_ms": 5000}),
            "cursus": _text("DELETE {}"),
            "later": _text("DELETE topic={}"),
            "http": _http("DELETE", "/v1/topics/{}"),
        },
    ),
    "describe": Row(
        ((TOPIC, "describe"),),
        {
            "kafka": _kafka(
                "Metadata", 9, lambda of: {"topics": [{"name": of}], "allow_auto_topic_creation": False}
            ),
            "later": _text("DESCRIBE topic={}"),
            "later metadata": _text("METADATA topic={}"),
            "later offsets": _text("LIST_OFFSETS topic={}"),
            "http": _http("GET", "/v1/topics/{}"),
            "http partition": _http("GET", "/v1/topics/{}/partitions/0"),
        },
    ),
    "configs": Row(
        ((TOPIC, "describe_configs"),),
        {
            "kafka": _kafka("DescribeConfigs", 4, partial(_configs, 2)),
            "http": _http("GET", "/v1/topics/{}/configs"),
        },
    ),
    "change configs": Row(
        ((TOPIC, "alter_configs"), (TOPIC, "describe")),
        {
            "kafka": _kafka("IncrementalAlterConfigs", 1, partial(_changed, 2, "retention.ms", "3600000")),
            "later": _text("CREATE topic={} retention_hours=1"),
            "http": _http("PATCH", "/v1/topics/{}/configs", {"configs": {"retention.ms": "3600000"}}),
        },
    ),
    "see a group": Row(
        ((GROUP, "describe"), (TOPIC, "describe")),
        {
            "kafka": _kafka("DescribeGroups", 5, lambda of: {"groups": [of]}),
            "kafka offsets": _kafka("OffsetFetch", 8, _offsets),
            "later": _text("GROUP_STATUS group={}"),
            "later offsets": _text("FETCH_OFFSET topic={0} partition=0 group={0}"),
            "later coordinator": _text("FIND_COORDINATOR group={}"),
            "http": _http("GET", "/v1/groups/{}"),
            "http offsets": _http("GET", "/v1/groups/{}/offsets"),
        },
    ),
    "take part in a group": Row(
        ((GROUP, "read"), (TOPIC, "read")),
        {
            "kafka": _kafka("OffsetCommit", 8, _commit),
            "later": _text("REGISTER_GROUP topic={0} group={0}"),
            "later consume": _text("CONSUME topic={0} partition=0 offset=0 member=m group={0}"),
            "http": _http("POST", "/v1/groups/{}/offsets/reset", {"to": "earliest", "dry_run": True}),
        },
    ),
    "delete a group": Row(
        ((GROUP, "delete"),),
        {
            "kafka": _kafka("DeleteGroups", 2, lambda of: {"groups_names": [of]}),
            "http": _http("DELETE", "/v1/groups/{}"),
        },
    ),
    "get an identity": Row(
        ((ID, "write"),),
        {
            "kafka": _kafka(
                "InitProducerId", 4, lambda of: {"transactional_id": of, "transaction_timeout_ms": 1000}
            ),
            "later": _text("INIT_PRODUCER_ID transactional_id={}"),
        },
    ),
    "see a transaction": Row(
        ((ID, "describe"),),
        {
            "kafka": _kafka("DescribeTransactions", 0, lambda of: {"transactional_ids": [of]}),
            "later": _text("TXN_STATUS transactional_id={}"),
            "http": _http("GET", "/v1/transactions/{}"),
        },
    ),
    "see the broker's configuration": Row(
        ((CLUSTER, "describe_configs"),),
        {
            "kafka": _kafka("DescribeConfigs", 4, lambda _: _configs(4, "1")),
            "http": _http("GET", "/v1/broker/configs"),
        },
    ),
    "change the broker's configuration": Row(
        ((CLUSTER, "alter_configs"),),
        {
            "kafka": _kafka(
                "IncrementalAlterConfigs", 1, lambda _: _changed(4, "log.cleaner.threads", "1", "")
            ),
            "http": _http("PATCH", "/v1/broker/configs", {"configs": {"log.cleaner.threads": "1"}}),
        },
    ),
}


def named(row: str, door: str, *, is_here: bool) -> str:
    """Return a name that nothing else has; of what is there it is as long as of what is not."""
    return f"{row}.{door}.{'here' if is_here else 'gone'}".replace(" ", "-").replace("'", "")


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    directory: pathlib.Path = tmp_path_factory.mktemp("broker")
    done = CliRunner().invoke(
        commands, ["user", "add", "admin", "--data-dir", str(directory / "data")], input="admin-secret\n"
    )
    assert done.exit_code == 0, done.output
    config = {
        "durability": "os",
        "security": {"authorizer": "acls", "super_users": ["User:admin"]},
        "protocols": {
            "kafka": {"listeners": [listener("passwords", sasl=["SCRAM-SHA-256"]), listener("open")]},
            "stomp": {"listeners": [listener("stomp")]},
        },
        "http": {"authentication": "none"},
    }
    with BrokerProcess(config, directory) as broker:
        made = Doors(broker)
        _prepare(made)
        yield made
        made.close()
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


def _prepare(doors: Doors) -> None:
    """Have everything there that is asked for, and nobody who may see it."""
    for kind in (TOPIC, GROUP, ID):
        doors.allow(kind, "*", "all")
    names = [named(row, door, is_here=True) for row, one in ROWS.items() for door in one.asks]
    made = {"topics": [_made(name)["topics"][0] for name in names], "timeout_ms": 5000}
    assert _DONE["kafka"].match(doors.kafka("CreateTopics", 7, made))
    for name in names:
        for request, version, values in (
            ("Produce", 9, _produce(name)),
            ("OffsetCommit", 8, _commit(name)),
            ("InitProducerId", 4, {"transactional_id": name, "transaction_timeout_ms": 1000}),
        ):
            if request != "OffsetCommit" or "stomp" not in name:
                answer = doors.kafka(request, version, values)
                assert _DONE["kafka"].match(answer), (request, answer)
    doors.forbid_all()


@pytest.mark.parametrize("row", ROWS)
def test_rights(doors: Doors, row: str) -> None:
    rules, asks, is_new = ROWS[row]
    for door, ask in asks.items():
        kind = door.partition(" ")[0]
        here, gone = (named(row, door, is_here=is_here) for is_here in (True, False))
        refused = ask(doors, here)
        assert _REFUSED[kind].search(refused), (door, refused)
        assert refused.replace(here, "") == ask(doors, gone).replace(gone, ""), door
    for door, ask in asks.items():
        name = named(row, door, is_here=not is_new)
        for resource, operation in rules:
            doors.allow(resource, "kafka-cluster" if resource == CLUSTER else name, operation)
        done = ask(doors, name)
        assert _DONE[door.partition(" ")[0]].match(done), (door, done)
    doors.forbid_all()


def test_who_may_make_topics_learns_no_more_of_one_than_that_it_is_there(doors: Doors) -> None:
    there = re.compile(r"'error_code': 36\b|TOPIC_ALREADY_EXISTS|exists|^409")
    for door, ask in ROWS["create"].asks.items():
        name = named("create", door, is_here=True)
        doors.allow(TOPIC, name, "create")
        answer = ask(doors, name)
        assert there.search(answer) or _REFUSED[door].search(answer), (door, answer)
        assert "retention" not in answer, (door, answer)
    doors.forbid_all()
