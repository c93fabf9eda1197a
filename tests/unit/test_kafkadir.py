"""Reading the directories of Kafka: golden records, what follows from them, and what is refused by name."""

from __future__ import annotations

import pathlib
import shutil
from uuid import UUID

import pytest
from twisted.internet.task import Clock

from megabroker.access import Acl, Operation, PatternType, Permission, ResourceType
from megabroker.config.schema import Config, NodeSettings
from megabroker.core.acls.service import acl_row
from megabroker.core.authentication.scram import fits, new_credential
from megabroker.core.credentials import SCRAM_TABLE, Credentials
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.transactions.transaction import TransactionState
from megabroker.errors import DataDirectoryLocked, ProtocolError, StorageError
from megabroker.kafkadir import metadata_records as m
from megabroker.kafkadir.adopting import adopt
from megabroker.kafkadir.batches import segments
from megabroker.kafkadir.copying import copy_into
from megabroker.kafkadir.directory import KafkaDirectories
from megabroker.kafkadir.properties import parse_properties
from megabroker.kafkadir.takeover import Kind, Takeover, plan
from megabroker.model import CommittedOffset, TopicPartition
from megabroker.storage.lock import DirectoryLock
from megabroker.storage.metadata.database import stored_rows
from megabroker.storage.metadata.memory import MemoryMetadataStore
from tests.unit.kafka_directories import (
    IDS,
    HandMade,
    group_record,
    offset_record,
    partition,
    topic,
    transaction_record,
)

ORDERS = TopicPartition("orders", 0)
NOW_MS = 10_000


@pytest.fixture
def made(tmp_path: pathlib.Path) -> HandMade:
    """A broker with one topic of one partition, in which one record is."""
    directory = HandMade(tmp_path / "kafka").metadata(topic("orders"), partition("orders"))
    return directory.replica("orders-0", b"one")


def planned(made: HandMade) -> Takeover:
    return plan(KafkaDirectories.read([made.path]), TopicConfigs({}), NOW_MS)


def texts(found: Takeover, kind: Kind) -> str:
    return "\n".join(one.text for one in found.findings if one.kind is kind)


# --- records ---------------------------------------------------------------------------------------

GOLDEN = [
    (m.Topic(name="foo", topic_id=bytes(range(16))), 0,
     "01 02 00  04 666f6f  000102030405060708090a0b0c0d0e0f  00"),
    (m.Config(resource_type=2, resource_name="foo", name="k", value="v"), 0,
     "01 04 00  02 04666f6f 026b 0276 00"),
    (m.Config(resource_type=2, resource_name="foo", name="k", value=None), 0,
     "01 04 00  02 04666f6f 026b 00 00"),
    (m.RemoveTopic(topic_id=bytes(16)), 0, "01 09 00" + "00" * 16 + "00"),
    (m.FeatureLevel(name="ab", feature_level=25), 0, "01 0c 00  03 6162  0019  00"),
    (m.ProducerIds(broker_id=1, broker_epoch=7, next_producer_id=2000), 0,
     "01 0f 00  00000001 0000000000000007 00000000000007d0  00"),
    (m.BeginTransaction(name="x"), 0, "01 17 00  01 00 02 02 78"),
    (m.EndTransaction(), 0, "01 18 00  00"),
    (m.Partition(partition_id=3, topic_id=bytes(16), replicas=[1], isr=[1], leader=1, leader_epoch=5,
                 partition_epoch=6, directories=[bytes(16)], eligible_leader_replicas=[2]), 2,
     "01 03 02  00000003" + "00" * 16 + "02 00000001  02 00000001  01  01  00000001 00000005 00000006"
     "02" + "00" * 16 + "01  01 05 02 00000002"),
    (m.PartitionChange(partition_id=3, topic_id=bytes(16), leader=-1, isr=[]), 0,
     "01 05 00  00000003" + "00" * 16 + "02  00 01 01  01 04 ffffffff"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "version", "golden"), GOLDEN)
def test_golden_records(record: m.Topic, version: int, golden: str) -> None:
    data = bytes.fromhex(golden.replace(" ", ""))
    assert m.frame(record, version) == data
    assert m.read_metadata_record(data) == record


def test_records_that_change_nothing_and_versions_not_known() -> None:
    assert m.read_metadata_record(bytes.fromhex("01 14 00 00")) is None
    with pytest.raises(ProtocolError, match="frame version 2"):
        m.read_metadata_record(bytes.fromhex("02 02 00 00"))
    with pytest.raises(ProtocolError):
        m.read_metadata_record(bytes.fromhex("01 02 01 00"))


# --- topics ----------------------------------------------------------------------------------------


def test_topic_goes_on(made: HandMade) -> None:
    change = m.PartitionChange(partition_id=0, topic_id=IDS["orders"].bytes, leader=1)
    made.metadata(change, m.Config(resource_type=2, resource_name="orders", name="retention.ms", value="77"))
    made.metadata(m.ProducerIds(next_producer_id=3000))
    found = planned(made)
    (kept,) = found.topics
    assert (kept.name, kept.id, kept.partitions) == ("orders", IDS["orders"], 1)
    assert kept.configs == {"retention.ms": "77"}
    assert kept.leader_epoch == 6  # 4 at first, a change of leader, and now us
    assert found.next_producer_id == 3000
    assert not found.refusals(partial=False)


def test_removed_topic_and_unfinished_transaction_of_the_controller(made: HandMade) -> None:
    made.metadata(topic("other"), partition("other"), m.RemoveTopic(topic_id=IDS["other"].bytes))
    made.metadata(m.BeginTransaction(), topic("other"), m.AbortTransaction())
    made.metadata(m.BeginTransaction(), topic("other"), partition("other"))
    assert [one.name for one in planned(made).topics] == ["orders"]
    made.metadata(m.EndTransaction()).replica("other-0")
    assert [one.name for one in planned(made).topics] == ["orders", "other"]


def test_snapshot_and_log_after_it(made: HandMade) -> None:
    log = made.path / "__cluster_metadata-0" / f"{0:020d}.log"
    log.rename(log.with_name(f"{2:020d}-{1:010d}.checkpoint"))
    made.metadata(m.Config(resource_type=2, resource_name="orders", name="retention.ms", value="5"))
    log.rename(log.with_name(f"{2:020d}.log"))
    assert planned(made).topics[0].configs == {"retention.ms": "5"}
    log.with_name(f"{2:020d}.log").rename(log.with_name(f"{3:020d}.log"))
    with pytest.raises(StorageError, match="begins at offset 3 and no snapshot reaches it"):
        planned(made)


@pytest.mark.parametrize(
    ("record", "kind", "text"),
    [
        (
            partition("other", replicas=(2, 3), leader=2),
            Kind.INCOMPLETE,
            "has no replica on node 1, only on node 2, 3",
        ),
        (partition("other"), Kind.INCOMPLETE, "has its replica in none of the directories"),
    ],
)
def test_missing_replica(made: HandMade, record: m.Partition, kind: Kind, text: str) -> None:
    made.metadata(topic("other"), record)
    found = planned(made)
    assert f"partition other-0 {text}" in texts(found, kind)
    assert found.refusals(partial=False)
    assert not found.refusals(partial=True)


@pytest.mark.parametrize(
    ("more", "kind", "text"),
    [
        ({"isr": [2]}, Kind.INCOMPLETE, "other-0 is not in sync on node 1, only on node 2"),
        ({"leader": 2}, Kind.NOTE, "other-0 was led by node 2; the replica here is in sync"),
        ({"isr": [], "leader": -1, "eligible_leader_replicas": [1]}, None, ""),
    ],
)
def test_replica_among_others(made: HandMade, more: dict[str, object], kind: Kind | None, text: str) -> None:
    made.metadata(topic("other")).replica("other-0")
    record = partition("other", replicas=(1, 2), **more)  # type: ignore[arg-type]
    made._append("__cluster_metadata-0", _framed(made, record, 2), 1)
    found = planned(made)
    assert kind is None or text in texts(found, kind)
    assert TopicPartition("other", 0) in found.replicas
    assert bool(found.refusals(partial=False)) is (kind is Kind.INCOMPLETE)


def _framed(made: HandMade, record: m.Partition, version: int) -> bytes:
    from megabroker.codec.batch import build

    end = made._end("__cluster_metadata-0")
    return bytes(build([(None, m.frame(record, version), (), 0)], base_offset=end))


def test_refused_by_name(made: HandMade) -> None:
    log = made.path / "orders-0" / f"{0:020d}.log"
    data = bytearray(log.read_bytes())
    data[16] = 1
    log.write_bytes(data)
    made.metadata(
        m.Config(resource_type=2, resource_name="orders", name="remote.storage.enable", value="true")
    )
    found = texts(planned(made), Kind.REFUSED)
    assert "partition orders-0 has messages of format v1 in" in found
    assert "topic orders has remote.storage.enable=true" in found
    assert planned(made).refusals(partial=True)


@pytest.mark.parametrize("name", ["../evil", "", "a" * 250, "a/b", "."])
def test_names_no_topic_may_have(made: HandMade, name: str) -> None:
    made.metadata(m.Topic(name=name, topic_id=bytes(16)), m.Partition(partition_id=0, topic_id=bytes(16)))
    found = planned(made)
    assert "is no name of a topic" in texts(found, Kind.REFUSED)
    assert [one.name for one in found.topics] == ["orders"]


def test_other_topic_id(made: HandMade) -> None:
    made.write("orders-0/partition.metadata", b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAw\n")
    assert f"is of topic id {UUID(int=3)}, not {IDS['orders']}" in texts(planned(made), Kind.REFUSED)


def test_access_rules(made: HandMade) -> None:
    rule = {
        "resource_type": 2,
        "resource_name": "orders",
        "pattern_type": 4,
        "principal": "User:alice",
        "host": "*",
        "operation": 3,
        "permission_type": 3,
    }
    made.metadata(
        m.AccessControlEntry(id=bytes(15) + b"1", **rule),
        m.AccessControlEntry(id=bytes(15) + b"2", **{**rule, "operation": 4}),
        m.RemoveAccessControlEntry(id=bytes(15) + b"2"),
    )
    found = planned(made)
    acl = Acl(
        ResourceType.TOPIC,
        "orders",
        PatternType.PREFIXED,
        "User:alice",
        "*",
        Operation.READ,
        Permission.ALLOW,
    )
    assert found.acls == [acl]
    assert acl_row(acl) in list(found.rows())


def test_left_out_is_named(made: HandMade) -> None:
    made.metadata(
        m.Config(resource_type=2, resource_name="orders", name="no.such", value="1"),
        m.Config(resource_type=4, resource_name="1", name="no.such", value="1"),
        m.Config(resource_type=4, resource_name="", name="log.retention.ms", value="123"),
        m.ClientQuota(key="producer_byte_rate"),
        m.AccessControlEntry(id=bytes(15) + b"1"),
        m.AccessControlEntry(id=bytes(15) + b"2", resource_type=2, pattern_type=3, operation=3),
        m.DelegationToken(token_id="a token"),
        m.RemoveAccessControlEntry(id=bytes(15) + b"1"),
    )
    made.replica("other-0").write("orders-7.0123-delete/x", b"")
    found = planned(made)
    left_out = texts(found, Kind.LEFT_OUT)
    for text in (
        "topic orders: no.such=1",
        "node 1: no.such=1",
        "producer_byte_rate of : expected",
        "the access rule UNKNOWN  from  READ TOPIC : Invalid permissionType UNKNOWN",
        "1 delegation tokens",
        "orders-7.0123-delete",
    ):
        assert text in left_out
    assert "other-0 belongs to no topic" in left_out
    assert found.broker_configs == {"default": {"log.retention.ms": "123"}}


def test_passwords_go_on(made: HandMade) -> None:
    """What Kafka keeps of a password is what is kept of it here."""
    kept = {number: new_credential(digest, "secret") for number, digest in ((1, "sha256"), (2, "sha512"))}

    def record(name: str, mechanism: int, iterations: int | None = None) -> m.UserScramCredential:
        one = kept.get(mechanism, kept[1])
        return m.UserScramCredential(
            name=name,
            mechanism=mechanism,
            salt=one.salt,
            stored_key=one.stored_key,
            server_key=one.server_key,
            iterations=one.iterations if iterations is None else iterations,
        )

    made.metadata(
        *(
            record("alice", 1),
            record("alice", 2),
            record("bob", 1),
            record("odd", 7),
            record("slow", 1, 1 << 30),
        ),
        m.RemoveUserScramCredential(name="bob", mechanism=1),
    )
    found = planned(made)
    assert texts(found, Kind.LEFT_OUT).count("it cannot be checked here") == 2
    clock = Clock()
    store = MemoryMetadataStore(clock)
    store.open()
    store.write([one for one in found.rows() if one.table == SCRAM_TABLE])
    clock.advance(1)
    credentials = Credentials(store)
    credentials.load()
    assert credentials.users() == ["alice"]
    assert credentials.of("alice") == {"SCRAM-SHA-256": kept[1], "SCRAM-SHA-512": kept[2]}
    assert fits(credentials.of("alice")["SCRAM-SHA-512"], "sha512", "secret")


def test_quotas(made: HandMade) -> None:
    Entity = m.ClientQuota.Entity
    user = Entity(entity_type="user", entity_name=None)
    client = Entity(entity_type="client-id", entity_name="app")
    host = Entity(entity_type="ip", entity_name="host.test")
    made.metadata(
        m.ClientQuota(entity=[user, client], key="producer_byte_rate", value=1024.0),
        m.ClientQuota(entity=[user, client], key="request_percentage", value=50.0),
        m.ClientQuota(entity=[client], key="consumer_byte_rate", value=5.0),
        m.ClientQuota(entity=[client], key="consumer_byte_rate", remove=True),
        m.ClientQuota(entity=[host], key="connection_creation_rate", value=3.0),
    )
    found = planned(made)
    assert found.quotas == {
        (("client-id", "app"), ("user", None)): {"producer_byte_rate": 1024.0, "request_percentage": 50.0}
    }
    row = '[["client-id","app"],["user",null]]'
    assert [one.key for one in found.rows() if one.table == "client_quotas"] == [row]
    assert "connection_creation_rate of ip host.test: 'host.test' is no IP" in texts(found, Kind.LEFT_OUT)


# --- groups and transactions -----------------------------------------------------------------------


def coordinated(made: HandMade) -> HandMade:
    made.metadata(topic("__consumer_offsets"), partition("__consumer_offsets"))
    made.metadata(topic("__transaction_state"), partition("__transaction_state"))
    return made.replica("__consumer_offsets-0").replica("__transaction_state-0")


def test_committed_offsets(made: HandMade) -> None:
    name = "__consumer_offsets-0"
    coordinated(made).log(name, offset_record("g", "orders", 0, 3), group_record("g", 12))
    made.log(name, offset_record("g", "orders", 0, 5), offset_record("gone", "orders", 0, 1))
    made.log(name, offset_record("gone", "orders", 0, None), offset_record("g", "unknown", 0, 1))
    for producer_id, offset in ((7, 100), (8, 200), (9, 300)):
        made.log(name, offset_record("g", "orders", 0, offset), producer_id=producer_id, producer_epoch=0,
                 base_sequence=0, attributes=16)  # fmt: skip
    made.marker(name, 7, commit=True).marker(name, 8, commit=False)
    found = planned(made)
    assert found.offsets == {"g": {ORDERS: CommittedOffset(100, 2, "note", 1000)}}
    assert found.groups["g"].generation == 12
    made.log("__transaction_state-0", transaction_record("t", producer_id=9, transaction_status=2))
    assert planned(made).offsets["g"][ORDERS].offset == 300


def test_transactions(made: HandMade) -> None:
    partitions = [_partitions("orders"), _partitions("unknown")]
    coordinated(made).log(
        "__transaction_state-0",
        transaction_record(
            "open",
            producer_id=4000,
            producer_epoch=3,
            transaction_status=1,
            transaction_partitions=partitions,
        ),
        transaction_record(
            "done", producer_id=11, producer_epoch=9, transaction_status=4, client_transaction_version=2
        ),
        transaction_record(
            "committing", producer_id=12, transaction_status=2, transaction_partitions=partitions
        ),
        transaction_record(
            "nowhere", producer_id=13, transaction_status=2, transaction_partitions=partitions[1:]
        ),
        transaction_record("dead", producer_id=14, transaction_status=6),
    )
    found = planned(made)
    assert sorted(found.transactions) == ["committing", "done", "nowhere", "open"]
    opened = found.transactions["open"]
    assert (opened.state, opened.producer_epoch, opened.partitions) == (
        TransactionState.PREPARE_ABORT,
        4,
        {ORDERS},
    )
    assert found.aborted == ["open"]
    assert found.transactions["committing"].state is TransactionState.PREPARE_COMMIT
    assert found.transactions["nowhere"].state is TransactionState.COMPLETE_COMMIT
    assert found.transactions["done"].ended_by_bump
    assert (found.next_producer_id, found.coordinator_epoch) == (4001, 5)


def _partitions(name: str) -> object:
    from megabroker.kafkadir.coordinator_records import TransactionValue

    return TransactionValue.Partitions(topic=name, partition_ids=[0])


# --- damage ----------------------------------------------------------------------------------------


def test_torn_end_of_an_internal_log_and_damage_inside(made: HandMade) -> None:
    name = "__consumer_offsets-0"
    coordinated(made).log(name, offset_record("g", "orders", 0, 3)).log(
        name, offset_record("g", "orders", 0, 4)
    )
    log = made.path / name / f"{0:020d}.log"
    data = log.read_bytes()
    log.write_bytes(data[:-3])
    assert planned(made).offsets["g"][ORDERS].offset == 3
    log.write_bytes(data + bytes(100))
    assert planned(made).offsets["g"][ORDERS].offset == 4
    log.write_bytes(data[:70] + b"?" + data[71:])
    with pytest.raises(StorageError, match=r"00\.log is damaged at byte 0: the CRC does not match"):
        planned(made)


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        (b"version=0\nbroker.id=1\n", "is of a broker with ZooKeeper"),
        (b"version=2\nnode.id=1\n", "is of version 2"),
        (b"version=1\nnode.id=x\ncluster.id=y\n", "expected cluster.id and node.id"),
    ],
)
def test_meta_properties(made: HandMade, meta: bytes, text: str) -> None:
    made.write("meta.properties", meta)
    with pytest.raises(StorageError, match=text):
        planned(made)


def test_not_a_directory_of_kafka(tmp_path: pathlib.Path, made: HandMade) -> None:
    with pytest.raises(StorageError, match=r"has no meta\.properties"):
        KafkaDirectories.read([tmp_path])
    other = HandMade(tmp_path / "other")
    other.write("meta.properties", b"version=1\ncluster.id=z\nnode.id=2\n")
    with pytest.raises(StorageError, match="belong to different brokers"):
        KafkaDirectories.read([made.path, other.path])


def test_locked(made: HandMade) -> None:
    lock = DirectoryLock(str(made.path))
    lock.take("now")
    try:
        with (
            pytest.raises(DataDirectoryLocked, match="is in use by a running broker"),
            KafkaDirectories.read([made.path]).held(),
        ):
            pass
    finally:
        lock.release()
    with KafkaDirectories.read([made.path]).held():
        pass


# --- segments that Kafka's cleaner was replacing ---------------------------------------------------


def test_swaps_count(made: HandMade) -> None:
    directory = made.path / "orders-0"
    made.log("orders-0", (None, b"two"), (None, b"three"))
    old = directory / f"{0:020d}.log"
    old.with_suffix(".log.swap").write_bytes(old.read_bytes())
    (directory / f"{1:020d}.log").write_bytes(b"replaced")
    (directory / f"{0:020d}.index.swap").write_bytes(b"")
    tail = directory / f"{3:020d}.log"
    tail.write_bytes(b"")
    assert [path.name for _, path in segments(directory)] == [f"{0:020d}.log.swap", tail.name]
    copy_into(planned(made), made.path.parent / "ours", clean=False, progress=lambda *_: None)
    copied = sorted(path.name for path in (made.path.parent / "ours" / "orders-0").glob("0*"))
    assert copied == [f"{0:020d}.index", old.name, tail.name]


# --- writing ---------------------------------------------------------------------------------------


def test_copy(made: HandMade, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "ours"
    told: list[tuple[int, int]] = []
    copy_into(planned(made), target, clean=False, progress=lambda *one: told.append(one))
    source = made.path / "orders-0" / f"{0:020d}.log"
    copied = target / "orders-0" / source.name
    assert copied.read_bytes() == source.read_bytes()
    assert copied.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert told == [(1, told[0][1])]
    assert stored_rows(target / "metadata.sqlite", "topics")["orders"]["id"] == IDS["orders"].hex
    assert b"node.id=1\n" in (target / "meta.properties").read_bytes()
    with pytest.raises(StorageError, match="is not empty"):
        copy_into(planned(made), target, clean=False, progress=lambda *_: None)
    (target / "import-unfinished").touch()
    copy_into(planned(made), target, clean=True, progress=lambda *_: None)
    assert not (target / "import-unfinished").exists()
    with pytest.raises(StorageError, match="which is not to be changed"):
        copy_into(planned(made), made.path / "inside", clean=True, progress=lambda *_: None)


def test_adopted_once_and_refused_when_kafka_ran_again(made: HandMade) -> None:
    config = Config(data_dir=made.path, node=NodeSettings())
    assert adopt([made.path], config, NOW_MS) is not None
    assert adopt([made.path], config, NOW_MS) is None
    made.metadata(m.FeatureLevel(name="x", feature_level=1))
    with pytest.raises(StorageError, match="Apache Kafka has run on"):
        adopt([made.path], config, NOW_MS)


def test_what_was_adopted_is_not_adopted_anew_where_another_directory_comes_first(
    made: HandMade, tmp_path: pathlib.Path
) -> None:
    assert adopt([made.path], Config(data_dir=made.path), NOW_MS) is not None
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(made.path / "meta.properties", other)
    with pytest.raises(StorageError, match=r"holds metadata\.sqlite"):
        adopt([other, made.path], Config(data_dir=other), NOW_MS)
    assert not (other / "metadata.sqlite").exists()
    again = tmp_path / "again"
    again.symlink_to(made.path)
    assert adopt([made.path], Config(data_dir=again), NOW_MS) is None


def test_adopting_refuses_what_would_be_lost(made: HandMade) -> None:
    made.metadata(topic("other"), partition("other", 0), partition("other", 1))
    with pytest.raises(StorageError, match="partition other-0 has its replica in none of the directories"):
        adopt([made.path], Config(data_dir=made.path), NOW_MS)
    assert not (made.path / "metadata.sqlite").exists()


# --- properties ------------------------------------------------------------------------------------


def test_java_properties() -> None:
    text = "# no\n! no\n a = 1 \nb:2\nc 3\nlong = x,\\\n    y\n"
    text += "key\\ with\\=odd=v\\u0041\\t\nempty=\na=last\n\\\n"
    assert parse_properties(text) == {
        "a": "last",
        "b": "2",
        "c": "3",
        "long": "x,y",
        "key with=odd": "vA\t",
        "empty": "",
    }
