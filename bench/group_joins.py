"""How long it takes until so many members are in one group, every one with its partitions.

    python -m bench.group_joins [--members 1000] [--partitions 1000] [--heartbeat 3]

Starts a broker of its own. Each member has a connection and does what clients do, as raw requests: a classic
one joins, is given an id, joins with it, syncs (the leader assigns round robin), sends heartbeats and joins
again when told to; one of the consumer protocol sends heartbeats as often as the broker says. All begin at
the same time. The clock stops when all partitions are had, by every member its share. Prints the seconds, and
the processor seconds the broker has spent. The work is to be done in 10 s for 1,000 members.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import time
from typing import Any

from bench.processes import cpu_seconds
from bench.transactions import create
from bench.wire import Wire, framed
from megabroker.protocols.kafka.consumer_metadata import ConsumerMetadata
from megabroker.protocols.kafka.schema import (
    consumer_group_heartbeat,
    create_partitions,
    heartbeat,
    join_group,
    sync_group,
)
from megabroker.protocols.kafka.schema.consumer_protocol import Subscription
from megabroker.protocols.kafka.schema.registry import response_header_version
from tests.brokers import BrokerProcess

_TOPIC = "topic"
_REBALANCE_IN_PROGRESS, _MEMBER_ID_REQUIRED = 27, 79
_TIMEOUT_MS = 60_000
_METADATA = ConsumerMetadata()
_SUBSCRIPTION = struct.pack(">h", 0) + Subscription(topics=[_TOPIC]).encode(0)


class Member:
    """One member on a connection of its own; ``done`` is set while it knows what it has."""

    def __init__(self, port: int, group: str, partitions: int, interval_s: float) -> None:
        self.port = port
        self.group = group
        self.partitions = partitions
        self.interval_s = interval_s
        self.has = 0
        self.members = 0

    async def connect(self) -> None:
        """Open the connection."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: Any, response: Any, version: int) -> Any:
        """Send a request, return the answer decoded."""
        self.writer.write(framed(request, version, 1))
        (size,) = struct.unpack(">i", await self.reader.readexactly(4))
        data = await self.reader.readexactly(size)
        start = 5 if response_header_version(type(request).__schema__.key, version) >= 1 else 4
        return response.decode(data, version, start)[0]


class ClassicMember(Member):
    """A member of the classic protocol."""

    async def run(self) -> None:
        """Join and live until cancelled."""
        await self.connect()
        self.member_id = ""
        while True:
            joined = await self._join()
            if await self._sync(joined):
                await self._live(joined.generation_id)
            self.has = 0

    async def _join(self) -> Any:
        while True:
            request = join_group.Request(
                group_id=self.group,
                session_timeout_ms=_TIMEOUT_MS,
                rebalance_timeout_ms=_TIMEOUT_MS,
                member_id=self.member_id,
                protocol_type="consumer",
                protocols=[join_group.Request.Protocol(name="range", metadata=_SUBSCRIPTION)],
            )
            answer = await self.ask(request, join_group.Response, 5)
            self.member_id = answer.member_id
            if answer.error_code == 0:
                return answer
            assert answer.error_code in (_MEMBER_ID_REQUIRED, _REBALANCE_IN_PROGRESS), answer

    async def _sync(self, joined: Any) -> bool:
        assignments = []
        if joined.leader == self.member_id:
            count = len(joined.members)
            for number, one in enumerate(joined.members):
                mine = frozenset(range(number, self.partitions, count))
                data = _METADATA.write_assignment(0, {_TOPIC: mine} if mine else {})
                assignments.append(sync_group.Request.Assignment(member_id=one.member_id, assignment=data))
            self.members = count
        request = sync_group.Request(
            group_id=self.group,
            generation_id=joined.generation_id,
            member_id=self.member_id,
            assignments=assignments,
        )
        answer = await self.ask(request, sync_group.Response, 3)
        if answer.error_code == _REBALANCE_IN_PROGRESS:
            return False
        assert answer.error_code == 0, answer
        self.has = len((_METADATA.read_assignment(answer.assignment) or {}).get(_TOPIC, ()))
        return True

    async def _live(self, generation: int) -> None:
        request = heartbeat.Request(group_id=self.group, generation_id=generation, member_id=self.member_id)
        while True:
            await asyncio.sleep(self.interval_s)
            answer = await self.ask(request, heartbeat.Response, 3)
            if answer.error_code == _REBALANCE_IN_PROGRESS:
                return
            assert answer.error_code == 0, answer


class ConsumerMember(Member):
    """A member of the consumer protocol (KIP-848)."""

    async def run(self) -> None:
        """Join and live until cancelled."""
        await self.connect()
        Request = consumer_group_heartbeat.Request
        request = Request(
            group_id=self.group,
            member_epoch=0,
            rebalance_timeout_ms=_TIMEOUT_MS,
            subscribed_topic_names=[_TOPIC],
            topic_partitions=[],
        )
        while True:
            answer = await self.ask(request, consumer_group_heartbeat.Response, 0)
            assert answer.error_code == 0, answer
            if answer.assignment is not None:
                owned = answer.assignment.topic_partitions
                self.has = sum(len(one.partitions) for one in owned)
                request = Request(
                    topic_partitions=[
                        Request.TopicPartition(topic_id=one.topic_id, partitions=one.partitions)
                        for one in owned
                    ]
                )
            else:
                request = Request(topic_partitions=None)
                await asyncio.sleep(answer.heartbeat_interval_ms / 1000)
            request.group_id, request.member_id = self.group, answer.member_id
            request.member_epoch = answer.member_epoch
            request.rebalance_timeout_ms = -1
            request.subscribed_topic_names = None


async def measure(kind: type[Member], port: int, count: int, partitions: int, interval_s: float) -> float:
    """Return the seconds until ``count`` members have all partitions between them, each its share."""
    members = [kind(port, kind.__name__, partitions, interval_s) for _ in range(count)]
    began = time.monotonic()
    tasks = [asyncio.create_task(member.run()) for member in members]
    share = range(partitions // count, -(-partitions // count) + 1)
    while True:
        await asyncio.sleep(0.05)
        for task in tasks:
            if task.done():
                task.result()
        has = [member.has for member in members]
        if sum(has) == partitions and all(one in share for one in has):
            break
    seconds = time.monotonic() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for member in members:
        member.writer.close()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--heartbeat", type=float, default=3, help="of classic members, in seconds")
    wanted = parser.parse_args()
    with BrokerProcess({"durability": "os"}) as broker:
        assert broker.process is not None
        port = broker.ports["kafka"]
        create(port, _TOPIC)
        wire = Wire(port)
        grown = create_partitions.Request.Topic(name=_TOPIC, count=wanted.partitions, assignments=None)
        request = create_partitions.Request(topics=[grown], timeout_ms=60_000)
        answer = wire.ask(request, create_partitions.Response, 2)
        assert answer.results[0].error_code == 0, answer
        for kind in (ClassicMember, ConsumerMember):
            before = cpu_seconds(broker.process.pid)
            seconds = asyncio.run(measure(kind, port, wanted.members, wanted.partitions, wanted.heartbeat))
            cpu = cpu_seconds(broker.process.pid) - before
            print(f"{kind.__name__}: {wanted.members} members in {seconds:.1f} s, {cpu:.1f} s of processor")


if __name__ == "__main__":
    main()
