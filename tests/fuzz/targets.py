"""The fuzz targets: each takes any bytes, and raises only when the decoder behind it is at fault.

Those of texts and of files are in ``text_targets`` and ``file_targets``.

A target has seeds, which are real: the bytes of Apache Kafka's own client for every message, batches in every
compression, requests of MEGA and cursus. ``python -m tests.fuzz TARGET`` runs one for as long as one likes.
Beside the seeds there is a corpus, for each target a file with an input in hexadecimal on each line: what
once reached further than all before it.
"""

from __future__ import annotations

import gzip
import pathlib
import struct
from collections.abc import Callable
from typing import Any

from crc32c import crc32c

from megabroker.codec import batch, compression, records, rewriting
from megabroker.codec.framing import FrameReader
from megabroker.errors import ProtocolError
from megabroker.protocols.cursus import codec as cursus
from megabroker.protocols.cursus.later import batch as cursus_batch
from megabroker.protocols.cursus.later import parsing as cursus_parsing
from megabroker.protocols.cursus.later.refusals import Refusal
from megabroker.protocols.cursus.later.words import WORDS
from megabroker.protocols.kafka.apis import k00_produce
from megabroker.protocols.kafka.consumer_metadata import ConsumerMetadata, subscribed_topics
from megabroker.protocols.kafka.schema.headers import read_request_header
from megabroker.protocols.kafka.schema.registry import APIS, request_header_version
from megabroker.protocols.mega import codec as mega
from megabroker.protocols.stomp.codec import VERSIONS, FrameLimits, StompReader
from tests.fuzz.file_targets import file_targets
from tests.fuzz.target import Target, refusing
from tests.fuzz.text_targets import text_targets
from tests.unit.classic_member import subscription
from tests.wire.test_kafka_golden_bytes import golden

__all__ = ["MESSAGES", "TARGETS", "corpus", "keep", "request_frames"]

_CORPUS = pathlib.Path(__file__).with_name("corpus")

_MAX_BYTES = 1 << 16
_COMPRESSIONS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def corpus(name: str) -> list[bytes]:
    """Return what is kept for a target."""
    file = _CORPUS / f"{name}.hex"
    return [bytes.fromhex(line) for line in file.read_text().split()] if file.exists() else []


def keep(name: str, inputs: list[bytes]) -> None:
    """Add to the corpus of a target; the shortest come first."""
    lines = sorted(
        {data.hex() for data in (*corpus(name), *inputs) if data}, key=lambda line: (len(line), line)
    )
    _CORPUS.mkdir(exist_ok=True)
    (_CORPUS / f"{name}.hex").write_text("".join(f"{line}\n" for line in lines))


# --- Kafka's messages --------------------------------------------------------------------------------


def _message(cls: Any, version: int) -> Callable[[bytes], None]:
    decode = cls.decoder(version)

    def feed(data: bytes) -> None:
        try:
            _, end = decode(data, 0, len(data))
        except ProtocolError:
            return
        assert 0 <= end <= len(data)

    return feed


def _messages() -> dict[str, Target]:
    found = {}
    for api in APIS.values():
        for way, cls in (("request", api.request), ("response", api.response)):
            for version in api.versions:
                seeds = [
                    golden()[api.name, way, version, sample]
                    for sample in ("full", "bare")
                    if (api.name, way, version, sample) in golden()
                ]
                if seeds:
                    feed = _message(cls, version)
                    found[f"{api.name}-{way}-{version}"] = Target(seeds, feed, decode=cls.decoder(version))
    return found


def _any_message(way: str) -> Target:
    """Return all messages of one way as one target; the first two bytes say which."""
    each = [target for name, target in MESSAGES.items() if f"-{way}-" in name]
    seeds = [struct.pack(">H", at) + seed for at, target in enumerate(each) for seed in target.seeds]

    def feed(data: bytes) -> None:
        if len(data) >= 2:
            each[int.from_bytes(data[:2]) % len(each)].feed(data[2:])

    return Target(seeds, feed)


def request_frames() -> list[bytes]:
    """Return every request of Apache Kafka's client as a frame, its length before it."""
    frames = []
    keys = {api.name: api.key for api in APIS.values()}
    for (name, way, version, _), body in golden().items():
        if way == "request" and name in keys:
            key = keys[name]
            tags = b"\0" if request_header_version(key, version) >= 2 else b""
            head = struct.pack(">hhih", key, version, 7, 4) + b"fuzz" + tags
            frames.append(struct.pack(">i", len(head) + len(body)) + head + body)
    return frames


def _old_produce(data: bytes) -> None:
    k00_produce.refuse_old(data, 2)


_METADATA = ConsumerMetadata()


def _embedded(data: bytes) -> None:
    _METADATA.read_subscription(data)
    _METADATA.read_assignment(data)
    subscribed_topics("consumer", data)


# --- batches -----------------------------------------------------------------------------------------


def _batches() -> list[bytes]:
    inputs = [
        (b"key", b"value" * 20, (("header", b"x"), ("null", None)), 1_700_000_000_000),
        (None, None, (), 1_700_000_000_007),
        (b"", b"", (), 1_700_000_000_003),
    ]
    found = [
        bytes(records.build(inputs, compression=codec, producer_id=5, producer_epoch=1, base_sequence=3))
        for codec in _COMPRESSIONS.values()
    ]
    found.append(
        bytes(
            records.build_control(
                commit=True, producer_id=5, producer_epoch=1, coordinator_epoch=2, timestamp_ms=9
            )
        )
    )
    return found


def _any_batch(data: bytes) -> None:
    """Everything that looks into batches, with the length and checksum made right so that it gets there."""
    for whole in (data, _sealed(data)):
        for attempt in (
            lambda whole=whole: batch.validate_produce(whole),
            lambda whole=whole: list(batch.scan(whole, 0, len(whole))),
            lambda whole=whole: list(batch.read_records(whole, max_bytes=_MAX_BYTES)),
            lambda whole=whole: batch.find_batch(whole, 0, len(whole), 0),
            lambda whole=whole: records.read_marker(whole, batch.read_header(whole, 0, len(whole))),
            lambda whole=whole: list(_skimmed(whole)),
        ):
            refusing(lambda _, attempt=attempt: attempt())(b"")


def _skimmed(data: bytes) -> Any:
    header = batch.read_header(data, 0, len(data))
    return rewriting.skim(rewriting.payload_of(data, header, 0, _MAX_BYTES), header)


def _sealed(data: bytes) -> bytes:
    if len(data) < batch.HEADER_BYTES:
        return data
    sealed = bytearray(data)
    struct.pack_into(">i", sealed, 8, len(sealed) - 12)
    sealed[16] = 2
    struct.pack_into(">I", sealed, 17, crc32c(bytes(sealed[21:])))
    return bytes(sealed)


def _decompress(codec: int) -> Callable[[bytes], None]:
    def decode(data: bytes) -> None:
        assert len(compression.decompress(codec, data, _MAX_BYTES)) <= _MAX_BYTES

    return refusing(decode)


# --- the other wires ---------------------------------------------------------------------------------


_STOMP_FRAMES = [
    b"SEND\ndestination:/topic/a\nkey:k\nx:a\\cb\r\ncontent-length:3\n\na\0b\0\n",
    b"SUBSCRIBE\nid:0\ndestination:/queue/a\nack:client\n\n\0" + b"ACK\nid:0-a-0-0\nreceipt:1\n\n\0",
    b"BEGIN\ntransaction:t\n\n\0" + b"SEND\ndestination:/topic/a\ntransaction:t\n\nbody\0",
]


def _stomp(version: str) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        reader = StompReader(FrameLimits(max_body_bytes=1000, max_headers=20, max_header_bytes=500))
        reader.version = version
        reader.feed(data)
        try:
            while reader.next() is not None:
                pass
        except ProtocolError:
            pass

    return feed


def _mega_requests() -> list[bytes]:
    payload = b"a message"
    requests = []
    for kind, rest in (
        (1, struct.pack(">qi", 1_700_000_000_000, len(payload)) + payload),
        (2, struct.pack(">qi", 1_700_000_000_000, 17)),
        (3, struct.pack(">q", 1_700_000_000_000)),
    ):
        requests.append(struct.pack(">iBi", 7, kind, 6) + b"orders" + rest)
    return [*requests, b"".join(requests), b"".join(one + bytes(4) for one in requests)]


def _mega(dialect: mega.Dialect) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        parser = mega.RequestParser(max_payload_bytes=1000, dialect=dialect)
        for at in range(0, len(data), 7):
            parser.receive(data[at : at + 7])
            assert parser.held_bytes <= (1 << 16) + 64

    return feed


def _cursus_requests() -> list[bytes]:
    texts = [b"LIST", b"HELP", b"CREATE news 4", b"DELETE news", b"PUBLISH news hello", b"CONSUME news 0 0"]
    texts += [b"CREATE topic=news partitions=4", b"JOIN_GROUP topic=news group=g member=m"]
    texts += [b"SUBSCRIBE news readers", b"a message of no command", b"EXIT"]
    bodies = [struct.pack(">H", 4) + b"news" + text for text in texts]
    return [struct.pack(">I", len(body)) + body for body in bodies]


def _cursus(data: bytes) -> None:
    reader = FrameReader(1000)
    reader.feed(data)
    while (body := reader.next()) is not None:
        cursus.decode_body(body)


def _cursus_body(how: str) -> Callable[[bytes], None]:
    def decode(data: bytes) -> None:
        body = cursus.decompress_body(how, data, _MAX_BYTES)
        assert len(body) <= _MAX_BYTES
        cursus.decode_body(body)

    return refusing(decode)


def _cursus_commands() -> list[bytes]:
    """Return every command of the later dialect with all its parameters."""
    found = []
    for word in WORDS.values():
        given = [one.syntax.strip("[]").replace("<N>", "7").replace("<n>", "-1") for one in word.parameters]
        found.append(" ".join((word.name, *given)).replace("<partition>:<offset>", "0:5").encode())
    return found


def _cursus_command(data: bytes) -> None:
    """Take the first word that fits for the command, so that most get to the parameters."""
    name, _, rest = data.partition(b" ")
    word = WORDS.get(name.decode("latin-1")) or list(WORDS.values())[len(data) % len(WORDS)]
    try:
        values = cursus_parsing.parse(word, rest)
    except Refusal:
        return
    assert set(values) == {one.name for one in word.parameters}


def _cursus_batches() -> list[bytes]:
    messages = [
        cursus_batch.BatchMessage(0, 7, b"hi", b"k", b"p1", 2),
        cursus_batch.BatchMessage(5, 8, b"", event_type=b"Created", schema_version=1, aggregate_version=9),
    ]
    return [cursus_batch.encode_batch("news", 3, messages[:count]) for count in range(3)]


def _cursus_batch(data: bytes) -> None:
    found = cursus_batch.decode_batch(data, 1000)
    again = cursus_batch.encode_batch(
        found.topic, found.partition, found.messages, acks=found.acks, idempotent=found.idempotent
    )
    assert cursus_batch.decode_batch(again, 1000) == found


def _targets() -> dict[str, Target]:
    targets = dict(MESSAGES)
    for way in ("request", "response"):
        targets[f"any-{way}"] = _any_message(way)
    targets["request-header"] = Target(
        [frame[4:] for frame in request_frames()[::9]],
        refusing(lambda data: read_request_header(data, 0, len(data))),
    )
    old = struct.pack(">hhih4shiih4sii5s", 0, 2, 1, 4, b"fuzz", 1, 1000, 1, 4, b"news", 1, 0, b"bytes")
    targets["produce-0-to-2"] = Target([old], refusing(_old_produce))
    targets["consumer-protocol"] = Target(
        [
            *(subscription(["a", "b"], {("a", 0), ("a", 1)}, version) for version in (1, 2, 3)),
            *(_METADATA.write_assignment(version, {"a": frozenset({1, 2})}) for version in (0, 3)),
        ],
        _embedded,
    )
    targets["batch"] = Target(_batches(), _any_batch, fixed_bytes=2 << 20)
    for name, codec in _COMPRESSIONS.items():
        seeds = [compression.compress(codec, content) for content in (b"", b"news" * 50, bytes(range(256)))]
        targets[f"compression-{name}"] = Target(seeds, _decompress(codec), fixed_bytes=4 << 20)
    for version in VERSIONS:
        targets[f"stomp-{version}"] = Target(_STOMP_FRAMES, _stomp(version))
    for dialect in mega.Dialect:
        targets[f"mega-{dialect.value}"] = Target(_mega_requests(), _mega(dialect))
    targets["cursus"] = Target(_cursus_requests(), refusing(_cursus))
    targets["cursus-command"] = Target(_cursus_commands(), _cursus_command)
    targets["cursus-batch"] = Target(_cursus_batches(), refusing(_cursus_batch))
    for how in cursus.COMPRESSIONS:
        seeds = [request[4:] for request in _cursus_requests()]
        if how == "gzip":
            seeds = [gzip.compress(seed) for seed in seeds]
        elif how != "none":
            seeds = [compression.compress(_COMPRESSIONS[how], seed) for seed in seeds]
        targets[f"cursus-{how}"] = Target(seeds, _cursus_body(how), fixed_bytes=4 << 20)
    return {**targets, **text_targets(), **file_targets()}


MESSAGES = _messages()
"""Those of ``TARGETS`` that are one message of Kafka in one version."""

TARGETS = _targets()
"""By name."""
