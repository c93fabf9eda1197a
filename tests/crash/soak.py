"""A broker that is killed and stopped every few seconds under load, and what its clients were promised.

``python -m tests.crash.soak --minutes 10`` runs it by hand; ``test_soak`` runs it shortly.

Three librdkafka clients work all the time: an idempotent producer with acks=all, a transactional one that
commits most of its transactions and aborts the others, and a group that commits what it has read. Every few
seconds the broker's process gets SIGKILL and is started again, or SIGSTOP and a while later SIGCONT. In the
end everything is read, and the checker says what was not as it was promised:

- every record whose delivery was reported is there once, at the offset reported; none is there twice;
- a producer's records are in the order in which it sent them;
- of a committed transaction every record is there once, of an aborted one none, of any other all or none;
- committed offsets never go back;
- `fsck` finds nothing wrong after the last kill but a torn tail, and nothing at all after an orderly stop.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from megabroker.inspection.directories import check
from megabroker.inspection.findings import Kind
from tests.brokers import BrokerProcess

__all__ = ["Figures", "soak"]

PARTITIONS = 4
_PLAIN, _TRANSACTIONS = "plain", "transactions"
_CONFIG = {"internal.segment.bytes": "1000000", "index.interval.bytes": "1024"}
_IN_FLIGHT = 10_000
_RECORDS_PER_SECOND = 3000
_SHOWN = 20
_SETTLE_SECONDS = 60.0
_READ_SECONDS = 120.0


@attrs.define
class Figures:
    """What was done, and what was found wrong."""

    kills: int = 0
    stops: int = 0
    records: int = 0
    committed: int = 0
    aborted: int = 0
    uncertain: int = 0
    new_producers: int = 0
    offsets_committed: int = 0
    longest_start_ms: int = 0
    wrong: list[str] = attrs.field(factory=list)
    fatal: list[str] = attrs.field(factory=list)


class _Worker(threading.Thread):
    """A client that works until it is told to end; what it raises is kept."""

    def __init__(self, work: Callable[[], Iterator[None]], ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._ended = ended
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in self._work():
                if self._ended.is_set():
                    return
        except BaseException as fault:
            self.fault = fault


class _Soak:
    def __init__(self, broker: BrokerProcess, chance: random.Random) -> None:
        self.broker = broker
        self.chance = chance
        self.figures = Figures()
        self.reported: dict[int, dict[int, int]] = defaultdict(dict)  # partition -> number -> offset
        self.sent = 0
        self.outcomes: dict[int, tuple[str, int]] = {}  # transaction -> how it ended, records
        self.committed: dict[int, int] = {}
        self.settling = threading.Event()

    # --- clients ------------------------------------------------------------------------------------

    def produce(self) -> Iterator[None]:
        """Send numbers, some thousands a second; more when the broker is back."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            number = int(message.value().split(b" ", 1)[0])
            if error is None:
                self.reported[message.partition()][number] = message.offset()
            else:
                self.figures.fatal.append(f"idempotent producer: {error}")

        producer = Producer(
            {
                "bootstrap.servers": self.broker.kafka,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": 0,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        began = time.monotonic()
        while not self.settling.is_set():
            due = int((time.monotonic() - began) * _RECORDS_PER_SECOND)
            while self.sent < due and len(producer) < _IN_FLIGHT:
                number = self.sent
                self.sent += 1
                value = b"%d %s" % (number, b"x" * (number % 400))
                producer.produce(_PLAIN, value, partition=number % PARTITIONS, on_delivery=delivered)
            producer.poll(0.01)
            yield
        left = producer.flush(_SETTLE_SECONDS)
        if left:
            self.figures.wrong.append(f"{left} records were never delivered")

    def transact(self) -> Iterator[None]:
        """End one transaction after another, most of them by committing."""
        producer = self._transactional()
        number = 0
        while not self.settling.is_set():
            number += 1
            count = self.chance.randrange(1, 30)
            wanted = "aborted" if self.chance.random() < 0.2 else "committed"
            try:
                producer.begin_transaction()
                for at in range(count):
                    value = b"%d %d" % (number, at)
                    producer.produce(_TRANSACTIONS, value, partition=(number + at) % PARTITIONS)
                    producer.poll(0)
                outcome = self._end(producer, wanted)
            except KafkaException as error:
                outcome = self._abort(producer, error, f"{wanted}, transaction {number}")
            self.outcomes[number] = (outcome, count)
            if outcome == "uncertain":
                self.figures.new_producers += 1
                producer = self._transactional()
            yield

    def _transactional(self) -> Producer:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            producer = Producer(
                {
                    "bootstrap.servers": self.broker.kafka,
                    "transactional.id": "soak",
                    "transaction.timeout.ms": 60_000,
                    "reconnect.backoff.max.ms": 500,
                    "log_level": 0,
                }
            )
            try:
                producer.init_transactions(20)
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise
                self.figures.fatal.append(f"init_transactions: {error}")
            else:
                return producer

    def _end(self, producer: Producer, wanted: str) -> str:
        """Commit or abort, as often as the client says that it may be asked again."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            try:
                if wanted == "committed":
                    producer.commit_transaction(10)
                else:
                    producer.abort_transaction(10)
                return wanted
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise

    def _abort(self, producer: Producer, error: KafkaException, what: str) -> str:
        found = error.args[0]
        if found.txn_requires_abort():
            try:
                return self._end(producer, "aborted")
            except KafkaException as second:
                found = second.args[0]
        self.figures.fatal.append(f"transactional producer, to be {what}: {found}")
        return "uncertain"

    def consume(self) -> Iterator[None]:
        """Read in a group and commit; what is committed must never go back."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.kafka,
                "group.id": "soak",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "reconnect.backoff.max.ms": 500,
                "session.timeout.ms": 45_000,
                "log_level": 0,
            }
        )
        consumer.subscribe([_PLAIN])
        while not self.settling.is_set():
            if consumer.consume(500, 0.2):
                try:
                    for one in consumer.commit(asynchronous=False) or ():
                        if one.error is None and one.offset >= 0:
                            self._note(one.partition, one.offset, "commit")
                            self.figures.offsets_committed += 1
                except KafkaException:
                    pass  # the broker was killed; what it has of it shows later
            yield
        consumer.close()

    def _note(self, partition: int, offset: int, what: str) -> None:
        before = self.committed.get(partition, -1)
        if offset < before:
            self.figures.wrong.append(f"{what}: partition {partition} went back from {before} to {offset}")
        self.committed[partition] = max(before, offset)

    # --- faults -------------------------------------------------------------------------------------

    def trouble(self) -> None:
        """Do one thing to the broker's process."""
        process = self.broker.process
        assert process is not None
        if self.chance.random() < 0.25:
            process.send_signal(signal.SIGSTOP)
            time.sleep(self.chance.uniform(0.2, 2.0))
            process.send_signal(signal.SIGCONT)
            self.figures.stops += 1
        else:
            self.broker.kill()
            self.broker.start()
            self.figures.kills += 1
            self.figures.longest_start_ms = max(self.figures.longest_start_ms, self.broker.ready_ms)

    # --- what was promised --------------------------------------------------------------------------

    def read(self, topic: str) -> dict[int, list[tuple[int, bytes]]]:
        """Return (offset, value) of every record that a read_committed consumer gets, by partition."""
        admin = AdminClient({"bootstrap.servers": self.broker.kafka, "log_level": 0})
        partitions = [TopicPartition(topic, at) for at in range(PARTITIONS)]
        asked = admin.list_offsets(
            {one: OffsetSpec.latest() for one in partitions}, isolation_level=IsolationLevel.READ_UNCOMMITTED
        )
        ends = {one.partition: found.result(30).offset for one, found in asked.items()}
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.kafka,
                "group.id": "reading",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(topic, at, OFFSET_BEGINNING) for at in range(PARTITIONS)])
        found: dict[int, list[tuple[int, bytes]]] = {at: [] for at in range(PARTITIONS)}
        deadline = time.monotonic() + _READ_SECONDS
        while any(one.offset < ends[one.partition] for one in consumer.position(partitions)):
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    found[message.partition()].append((message.offset(), message.value()))
            if time.monotonic() > deadline:
                self.figures.wrong.append(f"{topic} could not be read to its ends {ends}")
                break
        consumer.close()
        return found

    def check_records(self) -> None:
        wrong = self.figures.wrong
        for partition, rows in self.read(_PLAIN).items():
            numbers = [int(value.split(b" ", 1)[0]) for _, value in rows]
            twice = [number for number, times in Counter(numbers).items() if times > 1]
            if twice:
                wrong.append(f"partition {partition}: {len(twice)} records are there twice, as {twice[:5]}")
            if numbers != sorted(numbers):
                wrong.append(f"partition {partition}: records are not in order")
            there = {number: offset for number, (offset, _) in zip(numbers, rows, strict=True)}
            lost = [one for one, offset in self.reported[partition].items() if there.get(one) != offset]
            if lost:
                wrong.append(f"partition {partition}: {len(lost)} reported records are lost, as {lost[:5]}")
            torn = [
                number
                for number, (_, value) in zip(numbers, rows, strict=True)
                if value != b"%d %s" % (number, b"x" * (number % 400))
            ]
            if torn:
                wrong.append(f"partition {partition}: {len(torn)} records are torn, as {torn[:5]}")
            self.figures.records += len(rows)

    def check_transactions(self) -> None:
        found: Counter[tuple[int, int]] = Counter()
        for rows in self.read(_TRANSACTIONS).values():
            for _, value in rows:
                number, at = map(int, value.split())
                found[number, at] += 1
        seen: dict[int, set[int]] = defaultdict(set)
        for (number, at), times in found.items():
            seen[number].add(at)
            if times > 1:
                self.figures.wrong.append(f"transaction {number}: record {at} is there {times} times")
        for number, (outcome, count) in self.outcomes.items():
            there = len(seen[number])
            allowed = {"committed": {count}, "aborted": {0}, "uncertain": {0, count}}[outcome]
            if there not in allowed:
                self.figures.wrong.append(
                    f"transaction {number}, {outcome}: {there} of {count} records are there"
                )
            setattr(self.figures, outcome, getattr(self.figures, outcome) + 1)

    def check_offsets(self) -> None:
        consumer = Consumer({"bootstrap.servers": self.broker.kafka, "group.id": "soak", "log_level": 0})
        for one in consumer.committed([TopicPartition(_PLAIN, at) for at in range(PARTITIONS)], 30):
            if one.offset >= 0 or one.partition in self.committed:
                self._note(one.partition, one.offset, "after the end")
        consumer.close()

    def check_files(self, allowed: set[Kind]) -> None:
        report = check([pathlib.Path(self.broker.config["data_dir"])])
        self.figures.wrong += [one.line() for one in report.faults if one.kind not in allowed]


def soak(
    seconds: float,
    chance: random.Random,
    *,
    apart_seconds: tuple[float, float] = (2.0, 5.0),
    config: dict[str, Any] | None = None,
    told: Callable[[Figures], None] = lambda _: None,
) -> Figures:
    """Run it; return what was done and found.

    Args:
        apart_seconds: least and most time between two faults.
        told: called after each fault.
    """
    with tempfile.TemporaryDirectory(prefix="megabroker-soak-") as place:
        with BrokerProcess(config, directory=pathlib.Path(place)) as broker:
            admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
            made = admin.create_topics(
                [NewTopic(name, PARTITIONS, 1, config=_CONFIG) for name in (_PLAIN, _TRANSACTIONS)]
            )
            for one in made.values():
                one.result(30)
            run = _Soak(broker, chance)
            ended = threading.Event()
            workers = [_Worker(work, ended) for work in (run.produce, run.transact, run.consume)]
            for worker in workers:
                worker.start()
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and all(worker.is_alive() for worker in workers):
                time.sleep(chance.uniform(*apart_seconds))
                run.trouble()
                told(run.figures)
            run.settling.set()
            for worker in workers:
                worker.join(2 * _SETTLE_SECONDS)
                if worker.fault is not None or worker.is_alive():
                    run.figures.wrong.append(f"a client ended: {worker.fault!r}")
            ended.set()
            broker.kill()
            run.check_files({Kind.TORN})
            broker.start()
            run.check_records()
            run.check_transactions()
            run.check_offsets()
            if broker.stop():
                run.figures.wrong.append("the broker did not stop in order")
            run.check_files(set())
            for line in broker.log.splitlines():
                if "log-damaged" in line or "Traceback" in line or "sync-journal-damaged" in line:
                    run.figures.wrong.append(line)
            if run.figures.wrong:
                run.figures.wrong.append(broker.log[-3000:])
        return run.figures


def main() -> None:
    """Run it from the command line; exit code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="kill a broker every few seconds under load")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)

    def told(figures: Figures) -> None:
        done = figures.kills + figures.stops
        if done % 20 == 0:
            print(f"{figures.kills} kills, {figures.stops} stops; {figures.fatal[-1:]}", flush=True)

    figures = soak(60 * options.minutes, random.Random(seed), told=told)
    for name, value in attrs.asdict(figures).items():
        print(f"{name:18} {value if not isinstance(value, list) else len(value)}")
    for line in (*figures.fatal[:_SHOWN], *figures.wrong[:_SHOWN]):
        print(line)
    sys.exit(1 if figures.wrong else 0)


if __name__ == "__main__":
    main()
