"""How many functions the produce and fetch paths call, which no other load of the machine changes.

Seconds cannot be compared in CI; calls can, exactly. Each row of ``BOUNDS`` is what 100 requests called when
it was written, Python's functions and C's, over everything from the transport's ``recv`` to its ``send``. A
change that calls more fails here: either it can be had for less, or the row is raised with a reason beside
it. A change that calls fewer lowers the row.

Interpreters differ in what they call a call (comprehensions, inlined calls), so the rows hold for one
version.
"""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable

from megabroker.codec.batch import build, build_single
from megabroker.protocols.kafka.schema import fetch, init_producer_id, produce
from tests.unit.call_counting import COMPILED, Calls, Client, CountingCase, decoded, framed

_PYTHON = (3, 11)
_REQUESTS = 100
_SLACK = 5  # what other threads report meanwhile, of which little is the requests' doing
_NOW_MS = 1_700_000_000_000
_PRODUCE_VERSION, _FETCH_VERSION = 12, 12
_TRANSACTIONAL = 16

BOUNDS = {
    "one-pipelined": (1440, 2750),
    "one-in-flight": (4508, 5554),
    "one-100-connections": (2429, 3726),
    "two-partitions": (4859, 10469),
    "fifty-partitions": (2542, 3754),  # of which each is written and told by itself
    "two-topics": (1751, 3211),
    "transactional": (2541, 3851),  # from the second request on; the first adds the partition
    "batch-16k": (1950, 3209),
    "fetch-cached": (7000, 13740),  # with two calls of Python a sendfile to see that the page cache has it
    "fetch-waiting": (14108, 16883),  # a produce request each with it
}
"""Python's and C's calls of 100 requests.

Among them is what metrics cost: a look at the clock when a turn ends, the length of what a connection has
brought and of what is written; and where fetches wait, two calls for each kind that a turn answers.
"""

COMPILED_BOUNDS = BOUNDS | {
    "one-pipelined": (37, 40),  # all of a turn together, a segment's notes apart
    "one-in-flight": (2908, 3409),
    "one-100-connections": (37, 41),
    "hundred-partitions": (1932, 2150),  # a run each; how often a thread's reports are taken differs
    "batch-16k": (510, 523),
    "fetch-waiting": (12708, 14758),
    "two-topics": (267, 474),
}
"""The same with the compiled part."""


def produce_request(
    *batches: bytes | bytearray, topic: str = "t", transactional_id: str | None = None, first: int = 0
) -> bytes:
    """Return a Produce request with a batch for each of some partitions of a topic, from one on."""
    Topic = produce.Request.Topic
    data = [Topic.Partition(index=index, records=bytes(batch)) for index, batch in enumerate(batches, first)]
    request = produce.Request(
        transactional_id=transactional_id,
        acks=1 if transactional_id is None else -1,
        timeout_ms=30_000,
        topic_data=[Topic(name=topic, partition_data=data)],
    )
    return framed(request, _PRODUCE_VERSION)


def fetch_request(offset: int, max_bytes: int, *, min_bytes: int = 1, partition: int = 0) -> bytes:
    """Return a Fetch request outside any session."""
    Topic = fetch.Request.Topic
    wanted = Topic.Partition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes)
    request = fetch.Request(
        max_wait_ms=60_000,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        session_epoch=-1,
        topics=[fetch.Request.Topic(topic="t", partitions=[wanted])],
    )
    return framed(request, _FETCH_VERSION)


class CallCountTests(CountingCase):
    bounds = BOUNDS

    def setUp(self) -> None:
        if sys.version_info[:2] != _PYTHON or sys.implementation.name != "cpython":
            self.skipTest(f"the call counts are those of CPython {'.'.join(map(str, _PYTHON))}")
        super().setUp()
        self.done(self.service.core.topics.create("t", 2))
        self.client = self.connect()
        self.one = bytes(build_single(None, b"x" * 100, _NOW_MS))

    def check(self, name: str, run: Callable[[], object]) -> None:
        """Compare what 100 requests call with the table."""
        calls = self.counted(run)
        calls.native.pop("bisect_left", None)  # where a turn that took longer than most is counted
        bounds = self.bounds[name]
        over = [found > bound + _SLACK for found, bound in zip(calls.totals, bounds, strict=True)]
        self.assertFalse(any(over), f"{name}: {calls.totals} calls, at most {bounds} expected\n{calls}")

    def produced(self, client: Client, count: int) -> None:
        """Check the answers to so many Produce requests."""
        for answer in client.receive(count):
            message = decoded(produce.Response, answer, _PRODUCE_VERSION)
            for row in message.responses[0].partition_responses:
                self.assertEqual(row.error_code, 0)

    def fetched(self, client: Client, count: int) -> None:
        """Check the answers to so many Fetch requests."""
        for answer in client.receive(count):
            message = decoded(fetch.Response, answer, _FETCH_VERSION)
            self.assertTrue(message.responses[0].partitions[0].records)

    def test_one_record_requests_in_a_row(self) -> None:
        request = produce_request(self.one)

        def run() -> None:
            self.client.send(*[request] * _REQUESTS)
            self.produced(self.client, _REQUESTS)

        self.check("one-pipelined", run)
        self.assertIsNotNone(self.client.connection.template)

    def test_one_record_requests_one_at_a_time(self) -> None:
        request = produce_request(self.one)

        def run() -> None:
            for _ in range(_REQUESTS):
                self.client.send(request)
                self.produced(self.client, 1)

        self.check("one-in-flight", run)

    def test_a_hundred_connections_with_a_request_each(self) -> None:
        request = produce_request(self.one)
        clients = [self.connect() for _ in range(_REQUESTS)]

        def run() -> None:
            for client in clients:
                client.send(request)
            for client in clients:
                self.produced(client, 1)

        self.check("one-100-connections", run)

    def test_requests_of_two_partitions_which_no_template_fits(self) -> None:
        request = produce_request(self.one, self.one)

        def run() -> None:
            self.client.send(*[request] * _REQUESTS)
            self.produced(self.client, _REQUESTS)

        self.check("two-partitions", run)
        self.assertIsNone(self.client.connection.template)

    def test_requests_for_two_topics_in_turn(self) -> None:
        self.done(self.service.core.topics.create("another", 1))
        requests = [produce_request(self.one), produce_request(self.one, topic="another")]

        def run() -> None:
            self.client.send(*requests * (_REQUESTS // 2))
            self.produced(self.client, _REQUESTS)

        self.check("two-topics", run)

    def test_requests_for_fifty_partitions_in_turn(self) -> None:
        self.done(self.service.core.topics.create("many", 50))
        requests = [produce_request(self.one, topic="many", first=index) for index in range(50)]

        def run() -> None:
            for _ in range(_REQUESTS // 50):
                self.client.send(*requests)
                self.produced(self.client, 50)

        self.check("fifty-partitions", run)

    def test_requests_of_a_transaction(self) -> None:
        request = init_producer_id.Request(
            transactional_id="tx", transaction_timeout_ms=60_000, producer_id=-1, producer_epoch=-1
        )
        identity = self.client.ask(request, init_producer_id.Response, 5)
        self.assertEqual(identity.error_code, 0)
        sequence = 0

        def requests(count: int) -> list[bytes]:
            nonlocal sequence
            made = []
            for _ in range(count):
                batch = build(
                    [(None, b"x" * 100, (), _NOW_MS)],
                    producer_id=identity.producer_id,
                    producer_epoch=identity.producer_epoch,
                    base_sequence=sequence,
                    attributes=_TRANSACTIONAL,
                )
                made.append(produce_request(batch, transactional_id="tx"))
                sequence += 1
            return made

        prepared = [requests(1), *(requests(_REQUESTS) for _ in range(4))]

        def run() -> None:
            now = prepared.pop(0)
            self.client.send(*now)
            self.produced(self.client, len(now))

        run()
        self.check("transactional", run)

    def test_batches_of_16_kilobytes(self) -> None:
        request = produce_request(build([(None, b"x" * 100, (), _NOW_MS)] * 148))

        def run() -> None:
            for _ in range(_REQUESTS // 10):
                self.client.send(*[request] * 10)
                self.produced(self.client, 10)

        self.check("batch-16k", run)

    def test_fetches_of_16_kilobytes_from_the_page_cache(self) -> None:
        write = produce_request(build([(None, b"x" * 100, (), _NOW_MS)] * 148))
        self.client.send(*[write] * 10)
        self.produced(self.client, 10)
        requests = [fetch_request(148 * number, 17_000) for number in range(10)]

        def run() -> None:
            for _ in range(_REQUESTS // 10):
                self.client.send(*requests)
                self.fetched(self.client, 10)

        self.check("fetch-cached", run)

    def test_fetches_that_wait_for_the_next_record(self) -> None:
        write = produce_request(self.one)
        consumer = self.connect()
        partition = self.service.core.topics.partition("t", 0)

        def run() -> None:
            for _ in range(_REQUESTS):
                consumer.send(fetch_request(partition.high_watermark, 1 << 20))
                self.reactor.turn()
                self.client.send(write)
                self.produced(self.client, 1)
                self.fetched(consumer, 1)

        self.check("fetch-waiting", run)


@unittest.skipUnless(COMPILED, "the compiled part is not built (./dev compile)")
class CompiledCallCountTests(CallCountTests):
    bounds = COMPILED_BOUNDS
    compiled = True

    def counted(self, run: Callable[[], object]) -> Calls:
        """Run it once more to warm up: a connection's second request is the first that is recognised."""
        run()
        return super().counted(run)


class RulesCallCountTests(CallCountTests):
    """With access rules: what repeats costs no more, since rules are looked at when a template is made."""

    config = "security: {authorizer: acls, super_users: ['User:ANONYMOUS']}\n"

    # These are asked about each time: one call more for each topic.
    test_requests_of_two_partitions_which_no_template_fits = None  # type: ignore[assignment]
    test_fetches_of_16_kilobytes_from_the_page_cache = None  # type: ignore[assignment]
    test_fetches_that_wait_for_the_next_record = None  # type: ignore[assignment]
