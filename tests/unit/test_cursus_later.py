"""Commands of the later dialect taken apart, its refusals, its records, its indexes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.codec.batch import build, read_records
from megabroker.errors import ErrorCode, StateError
from megabroker.model import Header, Record
from megabroker.protocols.cursus.later.batch import BatchMessage, decode_batch, encode_batch
from megabroker.protocols.cursus.later.parsing import MAX_HEAD_BYTES, MAX_OFFSETS, parse
from megabroker.protocols.cursus.later.records import message_of, record_of
from megabroker.protocols.cursus.later.refusals import CLASSES, Refusal, classified, refusal_of
from megabroker.protocols.cursus.later.stream_index import EventIndex, SnapshotIndex
from megabroker.protocols.cursus.later.words import WORDS, Kind


def values(name: str, text: bytes) -> dict[str, object]:
    return {key: value for key, value in parse(WORDS[name], text).items() if value is not None}


def refused(name: str, text: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        parse(WORDS[name], text)
    return caught.value.text


def test_parameters_in_any_order() -> None:
    assert values("COMMIT_OFFSET", b" offset=5 group=g topic=t generation=-1 member=m partition=2") == {
        "topic": "t",
        "partition": 2,
        "group": "g",
        "offset": 5,
        "member": "m",
        "generation": -1,
    }


def test_a_message_is_the_rest_as_it_is() -> None:
    found = values("PUBLISH", b" topic=t  producerId=p xmessage=1 message= a=b  message=c\r\n \xff ")
    assert found["message"] == b" a=b  message=c\r\n \xff "
    assert (found["topic"], found["isIdempotent"], found["seqNum"]) == ("t", False, 0)


def test_metadata_may_have_blanks() -> None:
    text = b' topic=t key=k version=1 metadata={"a": 1,  "b": "x=y"} event_type=T message=m'
    found = values("APPEND_STREAM", text)
    assert (found["metadata"], found["event_type"]) == ('{"a": 1,  "b": "x=y"}', "T")


def test_offsets() -> None:
    for text in (b"P0:1,P7:2", b"offsets=P0:1,P7:2"):
        found = values("BATCH_COMMIT", b" topic=t group=g member=m generation=3 " + text)
        assert found["offsets"] == {0: 1, 7: 2}


def test_another_name_and_the_last_one_given() -> None:
    found = values("END_TXN", b" txn=a transaction=b producer_id=7 action=ABORT")
    assert (found["transactional_id"], found["producerId"], found["result"]) == ("a", "7", "abort")
    assert values("LIST_OFFSETS", b" topic=a topic=b")["topic"] == "b"


@pytest.mark.parametrize(
    ("name", "text", "reply"),
    [
        (
            "STREAM_VERSION",
            b" topic=t",
            'ERROR: missing_key command=STREAM_VERSION expected="STREAM_VERSION ',
        ),
        ("CONSUME", b" topic=t", "ERROR: invalid_consume_syntax command=CONSUME expected="),
        ("CREATE", b" topic=t partitions=0", "ERROR: invalid_partitions command=CREATE value="),
        ("CREATE", b" topic=t partitioner=round_robin", "ERROR: unsupported_topic_policy "),
        ("CREATE", b" topic=t 4", "ERROR: malformed_input command=CREATE expected="),
        ("CREATE", b" topic=\xff", "ERROR: invalid_topic command=CREATE"),
        ("PUBLISH", b" topic=t producerId=p isIdempotent=1 message=m", "ERROR: invalid_is_idempotent "),
        (
            "PUBLISH",
            b" topic=t producerId=p seqNum=18446744073709551616 message=m",
            "ERROR: invalid_seq_num ",
        ),
        ("PUBLISH", b" topic=t producerId=p message=", "ERROR: missing_message command=PUBLISH"),
        ("END_TXN", b" txn=t producerId=1 result=maybe", "ERROR: invalid_transaction_result "),
        ("READ_STREAM", b" topic=t key=k from_version=0", "ERROR: invalid_from_version "),
        ("BATCH_COMMIT", b" topic=t group=g member=m generation=1", "ERROR: no_valid_offsets "),
        (
            "BATCH_COMMIT",
            b" topic=t group=g member=m generation=1 P0:1,P0:2",
            "ERROR: duplicate_partition command=BATCH_COMMIT partition=0",
        ),
        (
            "BATCH_COMMIT",
            b" topic=t group=g member=m generation=1 P0:1,X",
            'ERROR: invalid_batch_commit_entry command=BATCH_COMMIT entry="X"',
        ),
        (
            "BATCH_COMMIT",
            b" topic=t group=g member=m generation=1 "
            + b",".join(b"P%d:1" % n for n in range(MAX_OFFSETS + 1)),
            "ERROR: invalid_batch_commit_entry ",
        ),
        ("LIST_OFFSETS", b" topic=t" + b" " * MAX_HEAD_BYTES, "ERROR: malformed_input "),
    ],
)
def test_refused(name: str, text: bytes, reply: str) -> None:
    told = refused(name, text)
    assert told.startswith(reply)
    assert len(told) < 2000
    assert "\n" not in told


def test_every_refusal_has_a_class() -> None:
    for word in WORDS.values():
        for one in word.parameters:
            if one.required:
                assert (one.missing or f"missing_{one.name}") in CLASSES, one
            if one.kind is not Kind.REST:
                assert (one.invalid or f"invalid_{one.name}") in CLASSES, one
    for code in ErrorCode:
        assert refusal_of(StateError(code, "x")).text.split()[1] in CLASSES


def test_classified() -> None:
    assert classified("ERROR: version_conflict current=1 expected=3") == (
        "ERROR: version_conflict class=conflict retryable=false current=1 expected=3"
    )
    assert classified("ERROR: NOT_LEADER") == "ERROR: NOT_LEADER class=routing retryable=true"
    assert classified("OK") == "OK"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(WORDS)), st.binary(max_size=200))
def test_any_text_is_parsed_or_refused(name: str, text: bytes) -> None:
    told = ""
    try:
        found = parse(WORDS[name], text)
    except Refusal as refusal:
        told = refusal.text
    if told:
        assert told.partition(" ")[2].split()[0] in CLASSES
    else:
        assert set(found) == {one.name for one in WORDS[name].parameters}


NUMBER = st.integers(0, (1 << 64) - 1)
TEXT = st.binary(max_size=30)
MESSAGE = st.builds(
    BatchMessage,
    st.integers(0, 1 << 40),
    NUMBER,
    TEXT,
    TEXT,
    TEXT,
    st.integers(-(1 << 63) + 1, (1 << 63) - 1),
    TEXT,
    st.integers(0, (1 << 32) - 1),
    NUMBER,
    TEXT,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(MESSAGE, max_size=5), st.text(max_size=20), st.sampled_from(["0", "1", "-1", "all"]))
def test_batches_come_back(messages: list[BatchMessage], topic: str, acks: str) -> None:
    found = decode_batch(encode_batch(topic, 3, messages, acks=acks, idempotent=True), 5)
    assert found == (topic, 3, acks, True, messages)


@settings(max_examples=100, deadline=None)
@given(st.lists(MESSAGE, min_size=1, max_size=5))
def test_messages_are_in_their_records(messages: list[BatchMessage]) -> None:
    stored = read_records(build(record_of(message, 1000) for message in messages))
    for offset, (message, record) in enumerate(zip(messages, stored, strict=True)):
        assert message_of(record) == message._replace(offset=offset)


def test_records_of_others_are_messages() -> None:
    headers = (
        Header("aggregate_version", b"-1"),
        Header("schema_version", b"9" * 30),
        Header("cursus.producer", b"::"),
        Header("event_type", None),
        Header("other", b"x"),
    )
    assert message_of(Record(4, 0, None, None, headers)) == BatchMessage(4, 0, b"")
    assert message_of(Record(4, 0, b"k" * 70_000, b"v", ())) == BatchMessage(4, 0, b"v")


def record(offset: int, key: bytes, version: int, value: bytes | None = b"v") -> Record:
    return Record(offset, 0, key, value, (Header("aggregate_version", b"%d" % version),))


def test_only_the_next_event_counts() -> None:
    index = EventIndex(0)
    for one in (record(0, b"a", 1), record(1, b"b", 1), record(2, b"a", 2), record(3, b"a", 2)):
        index.note(one)
    index.note(record(4, b"a", 9))
    index.note(Record(5, 0, b"a", b"no event"))
    assert (index.version(b"a"), index.version(b"b"), index.version(b"c")) == (2, 1, 0)
    assert list(index.events(b"a", 1, 0)[1]) == [0, 2]
    first, offsets = index.events(b"a", 1, 1)  # the first is deleted
    assert (first, list(offsets)) == (2, [2])
    assert list(index.events(b"a", 3, 0)[1]) == []
    size_bytes = index.size_bytes
    index.note(record(6, b"c", 7))  # those before it are deleted
    assert index.version(b"c") == 7
    assert index.events(b"c", 1, 0)[0] == 7
    assert index.size_bytes > size_bytes


def test_the_last_snapshot_counts() -> None:
    index = SnapshotIndex(0)
    index.note(record(0, b"a", 3))
    index.note(record(1, b"a", 2))
    assert index.find(b"a") == (2, 1)
    index.note(record(2, b"a", 0, None))
    assert index.find(b"a") is None
    assert index.size_bytes == 0
