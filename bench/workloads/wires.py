"""MEGA and cursus: requests over the broker's other wires. Their original brokers are in no registry."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

import attrs

from bench import cursus
from bench.native import Loaded, run_load
from bench.peers import Megabroker, Peer
from bench.processes import cpu_seconds, peak_mib
from bench.requests import create_topic, kafka_count, record_batch
from bench.workloads.model import Sample, Workload, expect, sampled
from bench.workloads.producing import write_batches

__all__ = ["WIRES"]

_TOPIC = "bench"
_RECORD_BYTES = 100
_STORED = 1000
_MEGA_HEAD = struct.Struct(">iBi")
_MEGA_PRODUCE, _MEGA_CONSUME = 1, 2


def _mega(kind: int, tail: bytes) -> bytes:
    name = _TOPIC.encode()
    return _MEGA_HEAD.pack(1, kind, len(name)) + name + struct.pack(">q", 1_700_000_000_000) + tail


def _value() -> bytes:
    """Return a payload that its own number makes unlike all others: cursus drops what it has had."""
    return b"########" + b"x" * (_RECORD_BYTES - 8)


def _mega_produce() -> bytes:
    return _mega(_MEGA_PRODUCE, struct.pack(">i", _RECORD_BYTES) + _value())


def _cursus_publish() -> bytes:
    name = _TOPIC.encode()
    body = struct.pack(">H", len(name)) + name + _value()
    return struct.pack(">I", len(body)) + body


def _written(
    wire: str, kind: str, request: Callable[[], bytes], *, connections: int = 1, depth: int = 1, count: int
) -> Callable[[Peer, float], Sample]:
    """Return a workload of identical requests that store one record each."""

    def run(peer: Peer, share: float) -> Sample:
        wanted = max(connections, int(count * share))
        create_topic(peer.kafka, _TOPIC)
        sample = _loaded(peer, wire, kind, [request()], wanted, connections, depth)
        expect(kafka_count(peer.kafka, _TOPIC, 1), wanted, peer)
        return sample

    return run


def _mega_consume(peer: Peer, share: float) -> Sample:
    """One message a request, of a thousand, in turn."""
    create_topic(peer.kafka, _TOPIC)
    write_batches(peer, _TOPIC, [record_batch(_STORED, _RECORD_BYTES)], 1)
    requests = [_mega(_MEGA_CONSUME, struct.pack(">i", offset)) for offset in range(_STORED)]
    return _loaded(peer, "mega", "mega-consume", requests, max(100, int(50_000 * share)), 1, 100)


def _cursus_consume(peer: Peer, share: float) -> Sample:
    """Numbered messages by one CONSUME after the other, as many as each is answered with."""
    wanted = max(_STORED, int(200_000 * share))
    create_topic(peer.kafka, _TOPIC)
    _loaded(peer, "cursus", "cursus", [_cursus_publish()], wanted, 1, 100)
    before, used, began = cpu_seconds(peer.pid), time.process_time(), time.monotonic()
    cursus.consume(_port(peer, "cursus"), _TOPIC, wanted)
    seconds, client = time.monotonic() - began, time.process_time() - used
    spent, moved = cpu_seconds(peer.pid) - before, wanted * _RECORD_BYTES / 1e6
    return Sample(wanted, wanted, moved, seconds, spent, client, peak_mib(peer.pid), 0, 0, 0)


def _cursus_push(peer: Peer, share: float) -> Sample:
    """Numbered messages from who publishes them to who has subscribed."""
    wanted = max(_STORED, int(50_000 * share))
    create_topic(peer.kafka, _TOPIC)
    subscriber = cursus.Subscriber(_port(peer, "cursus"), _TOPIC, wanted)
    began = time.monotonic()
    sample = _loaded(peer, "cursus", "cursus", [_cursus_publish()], wanted, 1, 100)
    seconds = subscriber.finish() - began
    return attrs.evolve(sample, seconds=seconds, client_cpu=sample.client_cpu + subscriber.cpu_seconds)


def _port(peer: Peer, wire: str) -> int:
    assert isinstance(peer, Megabroker)
    return peer.broker.ports[wire]


def _loaded(
    peer: Peer,
    wire: str,
    kind: str,
    requests: Sequence[bytes],
    count: int,
    connections: int,
    depth: int,
) -> Sample:
    port = _port(peer, wire)

    def load() -> Loaded:
        return run_load(port, requests, count=count, connections=connections, depth=depth, kind=kind)

    return sampled(peer, load, 1, _RECORD_BYTES)


def _wire(name: str, doc: str, run: Callable[[Peer, float], Sample]) -> Workload:
    return Workload(name, doc, ("megabroker",), "cpu", run)


WIRES = (
    _wire(
        "mega-pipelined",
        "MEGA produces of 100 bytes, 100 under way on one connection",
        _written("mega", "mega-produce", _mega_produce, depth=100, count=50_000),
    ),
    _wire(
        "mega-100-connections",
        "MEGA produces of 100 bytes, 100 connections with one under way each",
        _written("mega", "mega-produce", _mega_produce, connections=100, count=50_000),
    ),
    _wire("mega-consume", "MEGA consumes of 100 bytes, 100 under way on one connection", _mega_consume),
    _wire(
        "cursus-pipelined",
        "cursus publishes of 100 bytes, all different, 100 under way on one connection",
        _written("cursus", "cursus", _cursus_publish, depth=100, count=50_000),
    ),
    _wire(
        "cursus-100-connections",
        "the same, 100 connections with one under way each",
        _written("cursus", "cursus", _cursus_publish, connections=100, count=50_000),
    ),
    _wire(
        "cursus-consume",
        "CONSUME of 100-byte messages, up to 8,192 by each, one after the other",
        _cursus_consume,
    ),
    _wire(
        "cursus-push",
        "messages of 100 bytes pushed to a subscriber while they are published, 100 under way",
        _cursus_push,
    ),
)
