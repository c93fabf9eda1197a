"""cursus's later dialect over real sockets, at one process and at two: what its client has no words for."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest

from megabroker.protocols.cursus.later.batch import Batch, BatchMessage, decode_batch, encode_batch
from tests.brokers import BrokerProcess
from tests.http.asking import Api
from tests.interop.test_cursus_wire import Client
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop


def fields(reply: str) -> dict[str, str]:
    assert reply.startswith("OK "), reply
    return dict(pair.partition("=")[::2] for pair in reply.split(" ")[1:])


def batch(client: Client, command: str) -> Batch:
    client.send(command.encode(), b"")
    return decode_batch(client.frame(), 1 << 20)


def payloads(found: Batch) -> list[bytes]:
    return [message.payload for message in found.messages]


def consume(client: Client, topic: str, offset: int = 0, partition: int = 0, more: str = "") -> Batch:
    command = (
        f"CONSUME topic={topic} partition={partition} offset={offset} member=m group=reads-{topic} {more}"
    )
    return batch(client, command)


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"], scope="module")
def process(request: pytest.FixtureRequest) -> Any:
    with BrokerProcess() if request.param == 1 else WorkersProcess(request.param) as started:
        yield started


@pytest.fixture
def client(process: BrokerProcess) -> Iterator[Client]:
    with Client(process.ports["cursus"]) as connected:
        connected.socket.settimeout(20)
        yield connected


def ask(client: Client, command: str) -> str:
    return client.ask(command, b"")


def test_a_batch_comes_once_however_it_is_cut(process: BrokerProcess, client: Client) -> None:
    ask(client, "CREATE topic=cuts partitions=1")

    def publish(first: int, last: int, epoch: int = 7) -> str:
        messages = [BatchMessage(0, n, b"%d" % n, producer_id=b"p", epoch=epoch) for n in range(first, last)]
        body = encode_batch("cuts", 0, messages, acks="all", idempotent=True)
        client.socket.sendall(struct.pack(">I", len(body)) + body)
        return client.frame().decode()

    assert json.loads(publish(1, 6))["last_offset"] == 4
    assert json.loads(publish(1, 6))["last_offset"] == 4  # as it was
    assert json.loads(publish(3, 9))["last_offset"] == 7  # part of it is stored
    assert json.loads(publish(2, 4))["last_offset"] == 7
    assert publish(10, 12).startswith("ERROR: idempotency_gap ")
    assert publish(2, 3, epoch=6).startswith("ERROR: stale_producer_epoch ")
    assert publish(2, 3, epoch=8).startswith("ERROR: idempotency_gap ")
    process.kill()
    process.start()
    with Client(process.ports["cursus"]) as again:
        client = again
        assert json.loads(publish(1, 9))["last_offset"] == 7
        assert publish(1, 2, epoch=6).startswith("ERROR: stale_producer_epoch ")
        assert json.loads(publish(1, 2, epoch=8))["last_offset"] == 8
        assert payloads(consume(again, "cuts")) == [b"%d" % n for n in (*range(1, 9), 1)]


def test_a_transaction_is_seen_by_kafka_when_it_is_committed(process: BrokerProcess, client: Client) -> None:
    ask(client, "CREATE topic=in partitions=2")
    ask(client, "CREATE topic=out partitions=2")
    member = fields(ask(client, "JOIN_GROUP topic=in group=work member=c"))
    scope = f"topic=in group=work member={member['member']} generation={member['generation']}"
    who = ""
    for result, state in (("abort", "aborted"), ("commit", "committed")):
        session = fields(ask(client, "INIT_PRODUCER_ID transactional_id=tx"))
        who = f"transactional_id=tx producerId={session['producerId']} epoch={session['epoch']}"
        assert fields(ask(client, f"BEGIN_TXN {who}"))["state"] == "open"
        for partition in (0, 1):
            for seq in (1, 2):
                told = ask(
                    client,
                    f"TXN_PUBLISH {who} topic=out partition={partition} seqNum={seq} message={result} {seq}",
                )
                assert told == f"OK transactional_id=tx staged_messages=1 topic=out partition={partition}"
        # The same message again is the same message.
        assert ask(client, f"TXN_PUBLISH {who} topic=out partition=1 seqNum=2 message={result} 2")[:2] == "OK"
        assert fields(ask(client, f"SEND_OFFSETS_TO_TXN {who} {scope} P0:5,P1:6"))["staged_offsets"] == "2"
        assert consume(client, "out").messages == []
        assert (
            payloads(consume(client, "out", more="isolation=read_uncommitted"))[-1]
            == b"%s 2" % result.encode()
        )
        ended = f"OK transactional_id=tx state={state} messages=4 offsets=2"
        assert ask(client, "TXN_STATUS transactional_id=tx").endswith("state=open messages=4 offsets=2")
        assert ask(client, f"END_TXN {who} result={result}") == ended
        assert ask(client, f"END_TXN {who} result={result}") == ended
        assert ask(client, "TXN_STATUS transactional_id=tx") == ended
        wanted = "OK offset=0" if result == "abort" else "OK offset=6"
        assert ask(client, "FETCH_OFFSET topic=in partition=1 group=work") == wanted
    assert ask(client, f"BEGIN_TXN {who}").startswith("ERROR: producer_reinitialization_required ")
    assert ask(client, f"TXN_PUBLISH {who} topic=out seqNum=9 message=x").startswith(
        "ERROR: producer_fenced "
    )
    assert payloads(consume(client, "out")) == [b"commit 1", b"commit 2"]
    kafka = confluent_kafka.Consumer(
        {"bootstrap.servers": process.kafka, "group.id": "work", "isolation.level": "read_committed"}
    )
    try:
        kafka.assign([confluent_kafka.TopicPartition("out", 1, 0)])
        assert [one.value() for one in kafka.consume(2, timeout=20)] == [b"commit 1", b"commit 2"]
        committed = kafka.committed([confluent_kafka.TopicPartition("in", 0)], timeout=20)
        assert committed[0].offset == 5
    finally:
        kafka.close()


def test_a_transaction_fences_the_one_before(client: Client) -> None:
    ask(client, "CREATE topic=fenced partitions=1")
    old, new = (fields(ask(client, "INIT_PRODUCER_ID transactional_id=f")) for _ in range(2))
    assert int(new["epoch"]) == int(old["epoch"]) + 1
    told = ask(client, f"BEGIN_TXN transactional_id=f producerId={old['producerId']} epoch={old['epoch']}")
    assert told.split()[1] in ("producer_fenced", "producer_reinitialization_required")
    who = f"transactional_id=f producerId={new['producerId']} epoch={new['epoch']}"
    assert ask(client, f"TXN_PUBLISH {who} topic=fenced seqNum=1 message=x").split()[1] == (
        "transaction_publish_failed"
    )
    assert ask(client, f"BEGIN_TXN {who}").startswith("OK")
    assert ask(client, f"BEGIN_TXN {who}").startswith("ERROR: transaction_begin_failed")
    assert (
        ask(client, f"END_TXN {who} result=abort")
        == "OK transactional_id=f state=aborted messages=0 offsets=0"
    )
    assert ask(client, f"END_TXN {who}").startswith("ERROR: transaction_aborted")
    assert ask(client, "TXN_STATUS transactional_id=nobody").startswith("ERROR: transaction_not_found")


def test_groups(process: BrokerProcess, client: Client) -> None:
    ask(client, "CREATE topic=shared partitions=4")
    one = fields(ask(client, "JOIN_GROUP topic=shared group=g member=one").replace("[0 1 2 3]", "all"))
    assert (one["assignments"], one["member"][:4]) == ("all", "one-")
    beat = f"HEARTBEAT topic=shared group=g member={one['member']} generation="
    assert (
        ask(client, beat + one["generation"]) == f"OK member={one['member']} generation={one['generation']}"
    )
    assert ask(client, "HEARTBEAT topic=shared group=g member=nobody generation=1") == (
        "ERROR: member_not_found member=nobody group=g"
    )
    assert ask(client, "HEARTBEAT topic=shared group=none member=m generation=1") == (
        "ERROR: group_not_found group=none"
    )
    kafka = confluent_kafka.Consumer(
        {"bootstrap.servers": process.kafka, "group.id": "g", "group.protocol": "consumer"}
    )
    try:
        # A consumer of Kafka's is the other member of the same group.
        kafka.subscribe(["shared"])
        mine, told = one, ""
        deadline = time.monotonic() + 30
        while len(kafka.assignment()) != 2 or told.count(" ") < 3:
            assert time.monotonic() < deadline, told
            kafka.poll(0.1)
            told = ask(client, beat + mine["generation"])
            if told.startswith("ERROR: GEN_MISMATCH"):
                told = ask(client, f"JOIN_GROUP topic=shared group=g member={one['member']}")
                mine = dict(pair.partition("=")[::2] for pair in told.split(" ")[1:3])
            else:
                told = ask(client, f"SYNC_GROUP topic=shared group=g member={one['member']} generation=-1")
        owned = [int(n) for n in told.partition("[")[2].rstrip("]").split(" ")]
        assert sorted(owned + [place.partition for place in kafka.assignment()]) == [0, 1, 2, 3]
        commit = f"COMMIT_OFFSET topic=shared group=g member={one['member']} generation={mine['generation']}"
        other = kafka.assignment()[0].partition
        assert ask(client, f"{commit} partition={owned[0]} offset=9") == "OK"
        assert ask(client, f"{commit} partition={owned[0]} offset=8").startswith("ERROR: offset_regression ")
        assert ask(client, f"{commit} partition={other} offset=8").startswith("ERROR: NOT_OWNER ")
        many = commit.replace("COMMIT_OFFSET", "BATCH_COMMIT")
        assert ask(client, f"{many} P{owned[0]}:10,P{other}:10").startswith("ERROR: NOT_OWNER ")
        assert ask(client, f"{many} P{owned[0]}:10,P{owned[1]}:11") == "OK batched=2"
        found = kafka.committed([confluent_kafka.TopicPartition("shared", n) for n in owned], timeout=20)
        assert [place.offset for place in found] == [10, 11]
        status = json.loads(ask(client, "GROUP_STATUS group=g"))
        assert (status["member_count"], status["partition_count"], status["topic_name"]) == (2, 4, "shared")
        assert "g" in fields(ask(client, "LIST_GROUPS"))["groups"].split(",")
        left = ask(client, f"LEAVE_GROUP topic=shared group=g member={one['member']}")
        assert left == f"OK group=g member={one['member']} left=true"
    finally:
        kafka.close()


def test_reading_goes_on_where_the_group_is(client: Client) -> None:
    ask(client, "CREATE topic=resumed partitions=1")
    for n in range(6):
        ask(client, f"PUBLISH topic=resumed producerId=p message={n}")
    member = fields(ask(client, "JOIN_GROUP topic=resumed group=reads-resumed member=m"))
    commit = f"member={member['member']} generation={member['generation']} group=reads-resumed"
    assert ask(client, f"COMMIT_OFFSET topic=resumed partition=0 offset=2 {commit}") == "OK"
    assert payloads(consume(client, "resumed")) == [b"2", b"3", b"4", b"5"]
    assert payloads(consume(client, "resumed", 4)) == [b"4", b"5"]
    assert payloads(consume(client, "resumed", 4, more="batch=1")) == [b"4"]
    assert payloads(consume(client, "resum?d", 1)) == [b"%d" % n for n in range(1, 6)]
    told = ask(client, "CONSUME topic=resumed partition=0 offset=7 member=m group=reads-resumed")
    assert told == "ERROR: OFFSET_OUT_OF_RANGE requested=7 earliest=0 latest=6"
    began = time.monotonic()
    assert consume(client, "resumed", 6, more="wait_ms=200").messages == []
    assert 0.15 < time.monotonic() - began < 5


def test_a_stream_is_sent_what_comes_and_told_its_end(process: BrokerProcess, client: Client) -> None:
    ask(client, "CREATE topic=live partitions=1")
    with Client(process.ports["cursus"]) as listens:
        listens.send(b"STREAM topic=live partition=0 group=listens member=m batch=10", b"")
        listens.socket.settimeout(20)

        def publish() -> None:
            for n in range(30):
                ask(client, f"PUBLISH topic=live producerId=p seqNum={n + 1} message={n}")

        publishing = threading.Thread(target=publish)
        publishing.start()
        found: list[bytes] = []
        while len(found) < 30:
            frame = listens.frame()
            if frame:
                found += payloads(decode_batch(frame, 10))
        publishing.join()
        assert found == [b"%d" % n for n in range(30)]
        assert ask(client, "FETCH_OFFSET topic=live partition=0 group=listens") == "OK offset=0"
        process.stop()
        frames = [frame for frame in listens.rest() if frame]
        assert frames == [b"STREAM_CONTROL type=CLOSE reason=stopped offset=30"]
    process.start()


def test_events_outlive_a_crash_and_forgeries_do_not_count(process: BrokerProcess, client: Client) -> None:
    ask(client, "CREATE topic=events partitions=2 event_sourcing=true")
    append = "APPEND_STREAM topic=events key=a event_type=T version="
    partition = int(fields(ask(client, append + "1 message=one"))["partition"])
    kafka = confluent_kafka.Producer({"bootstrap.servers": process.kafka})
    for version in (b"1", b"7"):
        kafka.produce("events", b"forged", b"a", partition, headers={"aggregate_version": version})
    kafka.flush(20)
    assert fields(ask(client, append + "2 message=two"))["offset"] == "3"
    assert ask(client, "SAVE_SNAPSHOT topic=events key=a version=1 message=so far") == (
        f"OK version=1 partition={partition}"
    )
    process.kill()
    process.start()
    with Client(process.ports["cursus"]) as again:
        assert ask(again, "STREAM_VERSION topic=events key=a") == "OK version=2"
        assert ask(again, append + "2 message=again") == "ERROR: version_conflict current=2 expected=2"
        again.send(b"READ_STREAM topic=events key=a", b"")
        head = json.loads(again.frame())
        assert (head["count"], head["snapshot"]) == (1, {"version": 1, "payload": "so far"})
        (event,) = decode_batch(again.frame(), 10).messages
        assert (event.aggregate_version, event.payload, event.offset) == (2, b"two", 3)
        again.send(b"READ_STREAM topic=events key=a limit=1 from_version=2", b"")
        assert json.loads(again.frame())["count"] == 1
        assert len(decode_batch(again.frame(), 10).messages) == 1


def test_only_one_of_many_appends_of_a_version(process: BrokerProcess, client: Client) -> None:
    ask(client, "CREATE topic=races partitions=1 event_sourcing=true")
    won: list[int] = []

    def race(number: int) -> None:
        with Client(process.ports["cursus"]) as racer:
            for version in range(1, 21):
                told = ask(racer, f"APPEND_STREAM topic=races key=k version={version} message={number}")
                if told.startswith("OK"):
                    won.append(version)
                else:
                    assert told.startswith("ERROR: version_conflict "), told

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, 21))
    client.send(b"READ_STREAM topic=races key=k", b"")
    assert json.loads(client.frame())["count"] == 20
    assert [one.aggregate_version for one in decode_batch(client.frame(), 20).messages] == list(range(1, 21))


def test_bad_input_says_what_would_be_right(client: Client) -> None:
    ask(client, "CREATE topic=t partitions=1")
    for command, reply in (
        ("CREATE topic=..", "ERROR: invalid_topic_name topic=.. "),
        ("DESCRIBE topic=none", "ERROR: topic_not_found topic=none"),
        ("PUBLISH topic=t partition=4 producerId=p message=m", "ERROR: partition_not_found partition=4"),
        ("APPEND_STREAM topic=t key=k version=1 message=m", "ERROR: event_sourcing_not_enabled topic=t"),
        ("CREATE topic=t event_sourcing=true", "ERROR: invalid_topic_policy "),
        ("FIND_COORDINATOR a=b", "ERROR: missing_coordinator_key "),
        ("NEGOTIATE version=2", "ERROR: UNSUPPORTED_PROTOCOL_VERSION requested=2 min=1 max=1"),
        ("NEGOTIATE version=1 features=x,y require_features=true", "ERROR: UNSUPPORTED_FEATURE features=x,y"),
        ("AUTH principal=a token=b", "ERROR: authentication_failed mechanism=PLAIN"),
        ("NO_SUCH_WORD a=b", 'ERROR: unknown_command command="NO_SUCH_WORD"'),
    ):
        assert ask(client, command).startswith(reply), command
    client.socket.sendall(struct.pack(">I", 8) + b"\xba\x7c\0\1t\0\0\0")
    assert client.frame().startswith(b"ERROR: batch_decode_failed ")
    assert ask(client, "NEGOTIATE version=1 features=structured_errors_v1,other").endswith(
        "unsupported=other"
    )
    told = ask(client, "DELETE topic=none")
    assert told == "ERROR: topic_not_found class=not_found retryable=false topic=none"


def test_the_topic_of_snapshots_has_rules_of_its_own() -> None:
    """A topic of that name may be somebody else's: rules for another do not hold for it."""
    security = {"authorizer": "acls", "super_users": ["User:ANONYMOUS"]}
    with BrokerProcess({"durability": "os", "security": security}) as broker:
        admin = Api(broker.http_ports[0])
        rule = {"principal": "User:ANONYMOUS", "operation": "all", "resource_type": "topic"}
        rules = [{**rule, "resource": name} for name in ("mine", "new")]
        rules.append({**rule, "resource": "ours", "pattern": "prefixed"})
        admin.post("/v1/acls", {"acls": rules})
        compacted = {"cleanup.policy": "compact"}
        admin.post("/v1/topics", {"name": "mine.snapshots", "partitions": 1, "configs": compacted})
        admin.post("/v1/topics/mine.snapshots/messages", {"key": "k", "value": "secret"})
        broker.config["security"]["super_users"] = ["User:somebody"]
        broker.restart()
        with Client(broker.ports["cursus"]) as client:
            told = ask(client, "CREATE topic=new partitions=1 event_sourcing=true")
            assert told.startswith("ERROR: NOT_AUTHORIZED_FOR_TOPIC "), told
            for topic in ("mine", "ours"):
                fields(ask(client, f"CREATE topic={topic} partitions=1 event_sourcing=true"))
                fields(ask(client, f"APPEND_STREAM topic={topic} key=k version=1 message=m"))
            client.send(b"READ_STREAM topic=mine key=k", b"")
            assert "snapshot" not in json.loads(client.frame())
            assert payloads(decode_batch(client.frame(), 1)) == [b"m"]
            for command in (
                "READ_SNAPSHOT topic=mine key=k",
                "SAVE_SNAPSHOT topic=mine key=k version=1 message=x",
                "DELETE topic=mine",
            ):
                assert ask(client, command) == "ERROR: topic_not_found topic=mine.snapshots"
            fields(ask(client, "SAVE_SNAPSHOT topic=ours key=k version=1 message=x"))
            assert '"payload":"x"' in ask(client, "READ_SNAPSHOT topic=ours key=k")
            fields(ask(client, "DELETE topic=ours"))


def test_a_description_has_the_form_that_json_gives_it(client: Client) -> None:
    assert ask(client, "CREATE topic=described partitions=3").startswith("OK ")
    text = ask(client, "DESCRIBE topic=described")
    assert [row["id"] for row in json.loads(text)["partitions"]] == [0, 1, 2]
    assert text == json.dumps(json.loads(text), indent=2)
