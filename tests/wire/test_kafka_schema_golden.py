"""Kafka messages byte by byte, written by hand from the protocol guide, with their headers and sizes.

The historic versions, which the oracle of the other tests no longer has, are pinned down here.
"""

from __future__ import annotations

import struct

import attrs
import pytest
from twisted.trial.unittest import SynchronousTestCase

from megabroker.errors import ProtocolError
from megabroker.protocols.kafka.schema import (
    api_versions,
    compiler,
    consumer_protocol,
    create_topics,
    describe_configs,
    describe_topic_partitions,
    fetch,
    list_offsets,
    metadata,
    offset_commit,
    offset_fetch,
    produce,
    streams_group_describe,
)
from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.headers import (
    RequestHeader,
    ResponseHeader,
    encode_response_header,
    read_request_header,
)
from megabroker.protocols.kafka.schema.registry import (
    APIS,
    api,
    request_header_version,
    response_header_version,
)


def from_hex(text: str) -> bytes:
    """Read a dump: hexadecimal bytes, and quoted text, with comments from ``#`` on."""
    out = b""
    for line in text.splitlines():
        for word in line.partition("#")[0].split():
            out += word[1:-1].encode() if word.startswith("'") else bytes.fromhex(word)
    return out


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


@attrs.frozen
class OnDisk:
    length: int


class ApiVersions(SynchronousTestCase):
    def test_response_v4(self) -> None:
        golden = from_hex("""
            00 00 00 13     # size
            4f 74 d2 8b     # correlation id; the header has no tags, although the body is flexible
            00 00           # error code
            02              # one api
            00 12 00 00 00 04 00
            00 00 00 00     # throttle time
            00
        """)
        answer = api_versions.Response(api_keys=[api_versions.Response.Api(api_key=18, max_version=4)])
        self.assertEqual(frame(encode_response_header(18, 4, 0x4F74D28B) + answer.encode(4)), golden)
        self.assertEqual(api_versions.Response.decode(golden, 4, 8), (answer, len(golden)))

    def test_response_v4_with_two_apis(self) -> None:
        golden = from_hex("""
            00 00 00 1a  00 00 00 07  00 00
            03  00 12 00 00 00 04 00  00 4b 00 00 00 00 00
            00 00 00 00 00
        """)
        entry = api_versions.Response.Api
        answer = api_versions.Response(
            api_keys=[entry(api_key=18, max_version=4), entry(api_key=75, max_version=0)]
        )
        self.assertEqual(frame(encode_response_header(18, 4, 7) + answer.encode(4)), golden)

    def test_unsupported_version_is_answered_as_version_0(self) -> None:
        answer = api_versions.Response(
            error_code=35, api_keys=[api_versions.Response.Api(api_key=18, max_version=4)]
        )
        self.assertEqual(answer.encode(0), bytes.fromhex("0023 00000001 0012 0000 0004"))

    def test_tagged_features(self) -> None:
        cls = api_versions.Response
        answer = cls(
            supported_features=[cls.SupportedFeature(name="a.b", max_version=2)],
            finalized_features_epoch=5,
            finalized_features=[cls.FinalizedFeature(name="a.b", max_version_level=2, min_version_level=1)],
            zk_migration_ready=True,
        )
        golden = from_hex("""
            00 00  01  00 00 00 00
            04                                          # four tagged fields
            00 0a  02 04 'a.b' 00 00 00 02 00
            01 08  00 00 00 00 00 00 00 05
            02 0a  02 04 'a.b' 00 02 00 01 00
            03 01  01
        """)
        self.assertEqual(answer.encode(3), golden)
        self.assertEqual(cls.decode(golden, 3), (answer, len(golden)))
        self.assertEqual(answer.encode(2), bytes.fromhex("0000 00000000 00000000"))

    def test_unknown_tags_are_skipped(self) -> None:
        body = from_hex("00 00 01 00 00 00 00  03  07 02 ff ff  01 08 00 00 00 00 00 00 00 09  ff 7f 00")
        answer, pos = api_versions.Response.decode(body, 3)
        self.assertEqual((answer.finalized_features_epoch, pos), (9, len(body)))

    def test_wrong_tag_size_is_refused(self) -> None:
        for size in (7, 9):
            body = from_hex(f"00 00 01 00 00 00 00  01  01 {size:02x} 00 00 00 00 00 00 00 09 00 00")
            with self.assertRaises(ProtocolError):
                api_versions.Response.decode(body, 3)


class DescribeTopicPartitions(SynchronousTestCase):
    def test_request(self) -> None:
        golden = from_hex("""
            00 00 00 20
            00 4b 00 00  00 00 00 07  00 09 'kafka-cli' 00   # header 2: client id with an int16 length
            02 04 'foo' 00                                    # topics
            00 00 00 64                                       # response partition limit
            ff                                                # no cursor
            00
        """)
        request = describe_topic_partitions.Request(
            topics=[describe_topic_partitions.Request.Topic(name="foo")], response_partition_limit=100
        )
        header, pos = read_request_header(golden, 4, len(golden))
        self.assertEqual(header, RequestHeader(request_api_key=75, correlation_id=7, client_id="kafka-cli"))
        self.assertEqual(describe_topic_partitions.Request.decode(golden, 0, pos), (request, len(golden)))
        self.assertEqual(frame(header.encode(2) + request.encode(0)), golden)

    def test_request_with_cursor(self) -> None:
        cls = describe_topic_partitions.Request
        request = cls(cursor=cls.Cursor(topic_name="foo", partition_index=3))
        golden = from_hex("01 00 00 07 d0  01 04 'foo' 00 00 00 03 00  00")
        self.assertEqual(request.encode(0), golden)
        self.assertEqual(cls.decode(golden, 0), (request, len(golden)))

    def test_response(self) -> None:
        golden = from_hex("""
            00 00 00 29
            ab cd ef 12 00                                    # header 1
            00 00 00 00
            02 00 03 04 'foo'
            00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00   # topic id
            00 01 00 00 00 00 00
            ff 00
        """)
        topic = describe_topic_partitions.Response.Topic(
            error_code=3, name="foo", topic_authorized_operations=0
        )
        answer = describe_topic_partitions.Response(topics=[topic])
        self.assertEqual(frame(encode_response_header(75, 0, -0x543210EE) + answer.encode(0)), golden)
        self.assertEqual(describe_topic_partitions.Response.decode(golden, 0, 9), (answer, len(golden)))


class HistoricVersions(SynchronousTestCase):
    def both(self, message: f.Message, version: int, golden: bytes) -> None:
        self.assertEqual(message.encode(version), golden)
        self.assertEqual(type(message).decode(golden, version), (message, len(golden)))

    def test_offset_commit(self) -> None:
        cls = offset_commit.Request
        partition = cls.Topic.Partition(partition_index=1, committed_offset=2, committed_metadata=None)
        request = cls(group_id="g", topics=[cls.Topic(name="t", partitions=[partition])])
        self.both(
            request,
            0,
            from_hex("""
                00 01 'g'  00 00 00 01  00 01 't'  00 00 00 01
                00 00 00 01  00 00 00 00 00 00 00 02  ff ff
            """),
        )
        request.generation_id_or_member_epoch = 5
        request.member_id = "m"
        partition.commit_timestamp = 3
        self.both(
            request,
            1,
            from_hex("""
                00 01 'g'  00 00 00 05  00 01 'm'  00 00 00 01  00 01 't'  00 00 00 01
                00 00 00 01  00 00 00 00 00 00 00 02  00 00 00 00 00 00 00 03  ff ff
            """),
        )
        answer = offset_commit.Response(
            topics=[
                offset_commit.Response.Topic(
                    name="t",
                    partitions=[offset_commit.Response.Topic.Partition(partition_index=1, error_code=3)],
                )
            ]
        )
        self.both(answer, 1, from_hex("00 00 00 01 00 01 't' 00 00 00 01 00 00 00 01 00 03"))

    def test_offset_fetch(self) -> None:
        cls = offset_fetch.Request
        request = cls(group_id="g", topics=[cls.Topic(name="t", partition_indexes=[0, 7])])
        golden = from_hex("00 01 'g' 00 00 00 01 00 01 't' 00 00 00 02 00 00 00 00 00 00 00 07")
        for version in (0, 1, 2):
            self.both(request, version, golden)
        self.both(cls(group_id="g", topics=None), 2, from_hex("00 01 'g' ff ff ff ff"))
        with self.assertRaises(ProtocolError):
            cls.decode(from_hex("00 01 'g' ff ff ff ff"), 1)

    def test_list_offsets(self) -> None:
        cls = list_offsets.Request
        partition = cls.Topic.Partition(partition_index=1, timestamp=-2, max_num_offsets=3)
        request = cls(replica_id=-1, topics=[cls.Topic(name="t", partitions=[partition])])
        self.both(
            request,
            0,
            from_hex("""
                ff ff ff ff  00 00 00 01  00 01 't'  00 00 00 01
                00 00 00 01  ff ff ff ff ff ff ff fe  00 00 00 03
            """),
        )
        self.assertEqual(
            request.encode(1),
            from_hex("ff ff ff ff 00 00 00 01 00 01 't' 00 00 00 01 00 00 00 01 ff ff ff ff ff ff ff fe"),
        )
        answer_partition = list_offsets.Response.Topic.Partition(old_style_offsets=[9, 0])
        self.both(
            list_offsets.Response(
                topics=[list_offsets.Response.Topic(name="t", partitions=[answer_partition])]
            ),
            0,
            from_hex("""
                00 00 00 01  00 01 't'  00 00 00 01
                00 00 00 00  00 00  00 00 00 02  00 00 00 00 00 00 00 09  00 00 00 00 00 00 00 00
            """),
        )

    def test_create_topics(self) -> None:
        cls = create_topics.Request
        topic = cls.Topic(
            name="t",
            num_partitions=2,
            replication_factor=1,
            configs=[cls.Topic.Config(name="a", value=None)],
        )
        self.both(
            cls(topics=[topic], timeout_ms=1000),
            0,
            from_hex("""
                00 00 00 01  00 01 't'  00 00 00 02  00 01  00 00 00 00
                00 00 00 01 00 01 'a' ff ff  00 00 03 e8
            """),
        )

    def test_describe_configs(self) -> None:
        cls = describe_configs.Response
        config = cls.Resource.Config(name="a", value="b", read_only=True, is_default=True)
        resource = cls.Resource(error_message=None, resource_type=2, resource_name="t", configs=[config])
        self.both(
            cls(results=[resource]),
            0,
            from_hex("""
                00 00 00 00  00 00 00 01  00 00  ff ff  02  00 01 't'
                00 00 00 01  00 01 'a'  00 01 'b'  01 01 00
            """),
        )

    def test_metadata_for_all_topics(self) -> None:
        self.both(metadata.Request(topics=[]), 0, bytes(4))
        self.both(metadata.Request(topics=None), 1, b"\xff\xff\xff\xff")
        self.both(metadata.Request(topics=None), 9, bytes.fromhex("00 01 00 00 00"))


class Headers(SynchronousTestCase):
    def test_request_headers(self) -> None:
        header = RequestHeader(request_api_key=3, request_api_version=1, correlation_id=9, client_id=None)
        golden = bytes.fromhex("0003 0001 00000009 ffff")
        self.assertEqual(header.encode(1), golden)
        self.assertEqual(read_request_header(golden, 0, len(golden)), (header, len(golden)))
        flexible = bytes.fromhex("0003 0009 00000009 0001 61 01 07 01 ff")
        header, pos = read_request_header(flexible, 0, len(flexible))
        self.assertEqual((header.client_id, pos), ("a", len(flexible)))
        for end in range(len(flexible)):
            with self.assertRaises(ProtocolError):
                read_request_header(flexible, 0, end)

    def test_response_headers(self) -> None:
        for version in (0, 1):
            golden = ResponseHeader(correlation_id=-2).encode(version)
            self.assertEqual(golden, b"\xff\xff\xff\xfe" + bytes(version))
        self.assertEqual(encode_response_header(3, 8, -2), b"\xff\xff\xff\xfe")
        self.assertEqual(encode_response_header(3, 9, -2), b"\xff\xff\xff\xfe\x00")
        for key in (*APIS, 999):
            for version in range(20):
                header = ResponseHeader(correlation_id=5).encode(response_header_version(key, version))
                self.assertEqual(encode_response_header(key, version, 5), header)

    def test_versions(self) -> None:
        self.assertEqual([request_header_version(18, v) for v in (0, 2, 3, 4, 5, 99)], [1, 1, 2, 2, 2, 2])
        self.assertEqual({response_header_version(18, v) for v in range(9)}, {0})
        self.assertEqual(request_header_version(17, 1), 1)
        self.assertEqual((request_header_version(0, 8), response_header_version(0, 8)), (1, 0))
        self.assertEqual((request_header_version(0, 9), response_header_version(0, 9)), (2, 1))
        self.assertEqual((request_header_version(999, 0), response_header_version(999, 0)), (1, 0))


class Records(SynchronousTestCase):
    def request(self, *records: object) -> produce.Request:
        topic = produce.Request.Topic
        partitions = [
            topic.Partition(index=index, records=value)  # type: ignore[arg-type]
            for index, value in enumerate(records)
        ]
        return produce.Request(topic_data=[topic(name="t", partition_data=partitions)])

    def test_decoded_without_copy(self) -> None:
        for version in (3, 9):
            data = bytearray(self.request(b"abc").encode(version))
            decoded, _ = produce.Request.decode(data, version)
            view = decoded.topic_data[0].partition_data[0].records
            assert isinstance(view, memoryview)
            data[data.index(b"abc")] = ord("x")
            self.assertEqual(bytes(view), b"xbc")

    def test_encoded_without_copy(self) -> None:
        blob, view = b"b" * 1000, memoryview(bytearray(b"c" * 200))
        for version in (3, 9, 13):
            request = self.request(blob, None, view, b"")
            parts = request.encode_parts(version)
            self.assertIs(parts[1], blob)
            self.assertIs(parts[3], view)
            whole = request.encode(version)
            self.assertEqual(b"".join(parts), whole)  # type: ignore[arg-type]
            self.assertEqual(produce.Request.decode(whole, version)[0].encode(version), whole)

    def test_ranges_of_files(self) -> None:
        cls = fetch.Response
        stand_in = OnDisk(300)
        for version in (4, 11, 12, 18):
            partition = cls.Topic.Partition(records=stand_in)
            message = cls(responses=[cls.Topic(topic="t", partitions=[partition, partition])])
            parts = message.encode_parts(version)
            kept = [part is stand_in for part in parts]
            self.assertEqual(kept[:4], [False, True, False, True])
            self.assertFalse(any(kept[4:]))
            filled = b"".join(bytes(300) if part is stand_in else part for part in parts)  # type: ignore[misc]
            partition.records = bytes(300)
            self.assertEqual(filled, message.encode(version))
            partition.records = stand_in
            with self.assertRaises(TypeError):
                message.encode(version)

    def test_null_and_empty(self) -> None:
        for version in (3, 9):
            request = self.request(None, b"")
            decoded, _ = produce.Request.decode(request.encode(version), version)
            self.assertEqual(decoded, request)


class Notation(SynchronousTestCase):
    def test_classes(self) -> None:
        topic = produce.Response.Topic(name="t")
        self.assertEqual(topic, produce.Response.Topic(name="t"))
        self.assertNotEqual(topic, produce.Response.Topic(name="u"))
        self.assertNotEqual(topic, produce.Request.Topic(name="t"))
        self.assertIsNot(topic.partition_responses, produce.Response.Topic().partition_responses)
        self.assertEqual(
            repr(offset_fetch.Request.Topic(name="t", partition_indexes=[1])),
            "offset_fetch.Request.Topic(name='t', partition_indexes=[1])",
        )
        with self.assertRaises(TypeError):
            produce.Response.Topic(nome="t")  # type: ignore[call-arg]
        with self.assertRaises(AttributeError):
            topic.nome = "t"  # type: ignore[attr-defined]

    def test_structs_at_default_are_not_shared(self) -> None:
        first, second = (streams_group_describe.Response.Group.Member() for _ in range(2))
        self.assertEqual(first.assignment, second.assignment)
        self.assertIsNot(first.assignment, second.assignment)
        self.assertIsNot(first.assignment.active_tasks, second.assignment.active_tasks)

    def test_tagged_structs_that_are_not_sent_are_none(self) -> None:
        State = fetch.Request.ReplicaState
        bare = fetch.Request()
        self.assertIsNone(fetch.Request.decode(bare.encode(15), 15)[0].replica_state)
        state = State(replica_id=3, replica_epoch=7)
        told = fetch.Request(replica_state=state)
        body = told.encode(15)
        self.assertEqual(body[:-16], bare.encode(15)[:-1])
        self.assertEqual(body[-16:], from_hex("01 01 0d 00 00 00 03 00 00 00 00 00 00 00 07 00"))
        self.assertEqual(fetch.Request.decode(body, 15)[0].replica_state, state)

    def test_codecs_are_made_once_and_for_their_class_alone(self) -> None:
        self.assertIs(fetch.Request.decoder(12), fetch.Request.decoder(12))
        self.assertIsNot(fetch.Request.decoder(12), fetch.Request.decoder(11))
        self.assertIsNot(fetch.Request.decoder(12), fetch.Response.decoder(12))

    def test_fields_of_other_versions_are_left_out(self) -> None:
        request = offset_commit.Request(group_id="g", member_id="m", retention_time_ms=7)
        self.assertEqual(request.encode(0), from_hex("00 01 'g' 00 00 00 00"))

    def test_wrong_values_are_refused(self) -> None:
        wrong = [
            metadata.Response(controller_id=2**31),
            metadata.Response(controller_id="one"),  # type: ignore[arg-type]
            metadata.Response(topics=None),  # type: ignore[arg-type]
            metadata.Response(topics=[metadata.Response.Topic(name=None)]),
            metadata.Response(topics=[metadata.Response.Topic(name="x" * 32768)]),
            metadata.Response(topics=[metadata.Response.Topic(name="\ud800")]),
        ]
        for message in wrong:
            with self.assertRaises(ValueError):
                message.encode(1)

    def test_unknown_versions_are_refused(self) -> None:
        for version in (-1, 2, 14):
            with self.assertRaises(ProtocolError):
                produce.Request.decoder(version)
            with self.assertRaises(ProtocolError):
                produce.Request().encode(version)

    def test_source_can_be_read(self) -> None:
        text = compiler.source(produce.Request, 9)
        self.assertIn("def decode(buf, pos, end):", text)
        self.assertIn("def encode(message, out, cuts):", text)


class ConsumerProtocol(SynchronousTestCase):
    def test_subscription(self) -> None:
        for version in (0, 1, 3, 4, 32767):
            known = min(version, 3)
            subscription = consumer_protocol.Subscription(topics=["a", "b"], user_data=b"u")
            data = struct.pack(">h", version) + subscription.encode(known) + b"later"
            self.assertEqual(consumer_protocol.read_subscription(data), subscription)

    def test_assignment(self) -> None:
        cls = consumer_protocol.Assignment
        assignment = cls(assigned_partitions=[cls.TopicPartitions(topic="t", partitions=[0, 1])])
        golden = from_hex("""
            00 00  00 00 00 01  00 01 't'  00 00 00 02 00 00 00 00 00 00 00 01  ff ff ff ff
        """)
        self.assertEqual(struct.pack(">h", 0) + assignment.encode(0), golden)
        self.assertEqual(consumer_protocol.read_assignment(golden), assignment)

    def test_damage(self) -> None:
        for data in (b"", b"\x00", b"\xff\xff", b"\x00\x00", b"\x00\x00\x7f\xff\xff\xff"):
            for read in (consumer_protocol.read_subscription, consumer_protocol.read_assignment):
                with self.assertRaises(ProtocolError):
                    read(data)


@pytest.mark.parametrize("key", APIS)
def test_registry_says_what_the_messages_declare(key: int) -> None:
    entry = APIS[key]
    assert api(key) is entry
    for message in (entry.request, entry.response):
        schema = message.__schema__
        assert schema.key == key
        assert schema.versions == (entry.first_version, entry.last_version)
        first, last = schema.flexible
        assert entry.first_flexible == (first if first <= last else None)
        assert message.__module__.rpartition(".")[2] == entry.module


def test_registry_knows_no_other_keys() -> None:
    assert api(7) is None
    assert api(-1) is None
