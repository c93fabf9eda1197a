"""What a produce request costs the broker within a transaction, compared to a plain idempotent one.

    python -m bench.transactions [REQUESTS] [ROUNDS]

Two connections send the same requests, one record of 100 bytes each, to a partition of their own: one as an
idempotent producer, the other within an open transaction its partition is part of. The requests are encoded
before the clock starts and are sent in windows, every answer being awaited before the next window. The cost
is the processor time of the broker's process, all threads, from /proc; the two take turns, and the median of
the rounds is told. Produce is asked at version 11, where partitions are added by a request of their own, and
12. The second is to cost at most 1.3 times the first.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

from bench.processes import cpu_seconds
from bench.wire import Wire, framed
from megabroker.codec.records import build
from megabroker.protocols.kafka.schema import (
    add_partitions_to_txn,
    create_topics,
    init_producer_id,
    produce,
)
from tests.brokers import BrokerProcess

_TRANSACTIONAL = 16
_WINDOW = 50
_VALUE = bytes(100)
_VERSIONS = (11, 12)


class Sender:
    """A producer that sends one batch a request to one partition."""

    def __init__(self, port: int, topic: str, transactional_id: str | None, version: int) -> None:
        self.wire = Wire(port)
        self.topic = topic
        self.transactional_id = transactional_id
        self.version = version
        self.sequence = 0
        request = init_producer_id.Request(
            transactional_id=transactional_id,
            transaction_timeout_ms=600_000,
            producer_id=-1,
            producer_epoch=-1,
        )
        answer = self.wire.ask(request, init_producer_id.Response, 4)
        assert answer.error_code == 0, answer
        self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        if transactional_id is not None:
            self._add_partition()

    def _add_partition(self) -> None:
        Topic = add_partitions_to_txn.Topic
        request = add_partitions_to_txn.Request(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=[Topic(name=self.topic, partitions=[0])],
        )
        answer = self.wire.ask(request, add_partitions_to_txn.Response, 3)
        [topic] = answer.results_by_topic_v3_and_below
        assert topic.results_by_partition[0].partition_error_code == 0, answer

    def requests(self, count: int) -> Iterator[bytes]:
        """Encode the next windows of requests."""
        Topic = produce.Request.Topic
        for _ in range(count // _WINDOW):
            window = []
            for number in range(_WINDOW):
                records = build(
                    [(None, _VALUE, (), 1_700_000_000_000)],
                    producer_id=self.producer_id,
                    producer_epoch=self.epoch,
                    base_sequence=self.sequence,
                    attributes=_TRANSACTIONAL if self.transactional_id is not None else 0,
                )
                self.sequence += 1
                part = Topic.Partition(index=0, records=bytes(records))
                request = produce.Request(
                    transactional_id=self.transactional_id,
                    acks=-1,
                    timeout_ms=30_000,
                    topic_data=[Topic(name=self.topic, partition_data=[part])],
                )
                window.append(framed(request, self.version, number))
            yield b"".join(window)

    def run(self, windows: list[bytes]) -> None:
        """Send windows, awaiting all answers of each."""
        for window in windows:
            self.wire.send(window)
            for _ in range(_WINDOW):
                answer = self.wire.receive()
            check = produce.Response.decode(answer, self.version, 5)[0]
            assert check.responses[0].partition_responses[0].error_code == 0, check


def create(port: int, *names: str) -> None:
    """Create topics of one partition."""
    Topic = create_topics.Request.Topic
    topics = [Topic(name=name, num_partitions=1, replication_factor=1) for name in names]
    wire = Wire(port)
    answer = wire.ask(create_topics.Request(topics=topics, timeout_ms=30_000), create_topics.Response, 5)
    assert all(topic.error_code == 0 for topic in answer.topics), answer
    wire.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("requests", nargs="?", type=int, default=10_000, help="in each round")
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    wanted = parser.parse_args()
    requests: int = wanted.requests
    rounds: int = wanted.rounds
    with BrokerProcess({"durability": "os"}) as broker:
        assert broker.process is not None
        pid, port = broker.process.pid, broker.ports["kafka"]
        for version in _VERSIONS:
            names = [f"plain-{version}", f"transactional-{version}"]
            create(port, *names)
            senders = [
                Sender(port, names[0], None, version),
                Sender(port, names[1], f"bench-{version}", version),
            ]
            costs: list[list[float]] = [[], []]
            for turn in range(rounds + 1):
                for sender, cost in zip(senders, costs, strict=True):
                    windows = list(sender.requests(requests))
                    before = cpu_seconds(pid)
                    sender.run(windows)
                    if turn:  # the first one warms up
                        cost.append((cpu_seconds(pid) - before) / requests * 1e6)
            plain, transactional = (statistics.median(cost) for cost in costs)
            print(
                f"produce v{version}: {plain:.1f} us idempotent, {transactional:.1f} us in a transaction: "
                f"{transactional / plain:.2f} times"
            )


if __name__ == "__main__":
    main()
