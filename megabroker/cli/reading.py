"""A consumer for commands: fetches from the leaders of partitions, all of them at the same time.

Owns the position in each partition, and connections for this alone: a fetch is under way while something
else is asked. With read_committed, records of transactions that were aborted are left
out, as the broker's list of them and the markers in the log tell. The CRC of every batch is checked.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from megabroker.cli.cluster import MOVED, Cluster, Partition
from megabroker.cli.kafka_client import KafkaClient
from megabroker.cli.refusals import check, meaning
from megabroker.codec.batch import check_crc, parse_control, records, scan
from megabroker.errors import ErrorCode, ProtocolError, StateError
from megabroker.model import Record
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import fetch

__all__ = ["Reader"]

_BY_NAME: Final = 12
_MAX_BYTES: Final = 16 << 20
_PARTITION_BYTES: Final = 1 << 20
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20


class Reader:
    """Reads partitions from given offsets on.

    Args:
        committed: only what is committed.
    """

    def __init__(self, cluster: Cluster, *, committed: bool) -> None:
        self._cluster = cluster
        self._committed = committed
        self.positions: dict[Partition, int] = {}
        self._clients: dict[int, KafkaClient] = {}
        self._asked: set[KafkaClient] = set()
        self._failing_since: float | None = None

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions from now on, and no others."""
        self.positions = dict(positions)
        # What is on its way was asked for with other positions.
        if self._asked:
            self.close()

    def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._asked.clear()

    def drop(self, partition: Partition) -> None:
        """Do not read a partition any more."""
        self.positions.pop(partition, None)

    def poll(self, wait_ms: int) -> Iterator[tuple[Partition, list[Record]]]:
        """Yield what there is, or what comes until then. Raises RequestError, StateError.

        A position has passed the records of a partition when they are yielded.
        """
        try:
            yield from self._poll(wait_ms)
            self._failing_since = None
        except StateError as error:
            if error.code is not ErrorCode.UNREACHABLE:
                raise
            self.failed(error)

    def failed(self, error: StateError) -> None:
        """Begin anew with fresh connections. Raises the error if that did not help for half a minute."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > _PATIENCE_SECONDS:
            raise error
        self.close()
        self._cluster.close()
        time.sleep(_PAUSE_SECONDS)

    def _poll(self, wait_ms: int) -> Iterator[tuple[Partition, list[Record]]]:
        anew = self._failing_since is not None
        for leader, partitions in self._cluster.by_leader(self.positions, anew=anew).items():
            client = self._clients.get(leader)
            if client is None:
                client = self._clients[leader] = self._cluster.separate(leader)
            if client not in self._asked:
                client.send(self._request(partitions, wait_ms), most=_BY_NAME)
                self._asked.add(client)
        if not self._asked:
            time.sleep(min(wait_ms / 1000, _PAUSE_SECONDS))
            return
        readable, _, _ = select.select(list(self._asked), [], [], wait_ms / 1000 + 1)
        for client in readable:
            self._asked.discard(client)
            for topic in client.receive().responses:
                for row in topic.partitions:
                    yield from self._read(Partition(topic.topic, row.partition_index), row)

    def _request(self, partitions: list[Partition], wait_ms: int) -> fetch.Request:
        rows: dict[str, list[Any]] = {}
        for one in partitions:
            row = fetch.Request.Topic.Partition(
                partition=one.number,
                fetch_offset=self.positions[one],
                partition_max_bytes=_PARTITION_BYTES,
            )
            rows.setdefault(one.topic, []).append(row)
        topics = [fetch.Request.Topic(topic=name, partitions=some) for name, some in rows.items()]
        return fetch.Request(
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=_MAX_BYTES,
            isolation_level=int(self._committed),
            session_epoch=-1,
            topics=topics,
        )

    # --- answers ----------------------------------------------------------------------------------

    def _read(self, one: Partition, row: Any) -> Iterator[tuple[Partition, list[Record]]]:
        if one not in self.positions:
            return
        if row.error_code in MOVED or row.error_code == KafkaError.UNKNOWN_TOPIC_OR_PARTITION:
            raise StateError(ErrorCode.UNREACHABLE, f"{one}: {meaning(row.error_code)}")
        if row.error_code == KafkaError.OFFSET_OUT_OF_RANGE:
            check(row.error_code, None, f"{one} at {self.positions[one]}")
        check(row.error_code, None, str(one))
        found = self._records(one, row)
        if found:
            yield one, found

    def _records(self, one: Partition, row: Any) -> list[Record]:
        data = row.records or b""
        pending = sorted(
            ((it.first_offset, it.producer_id) for it in row.aborted_transactions or ()), reverse=True
        )
        aborted: set[int] = set()
        found: list[Record] = []
        try:
            for at, header in scan(data, 0, len(data)):
                while pending and pending[-1][0] <= header.next_offset - 1:
                    aborted.add(pending.pop()[1])
                if header.next_offset <= self.positions[one]:
                    continue
                if not check_crc(data, at, header):
                    raise ProtocolError("its checksum is wrong")
                if header.attributes & _CONTROL:
                    if header.producer_id in aborted and not _commits(data, header, at):
                        aborted.discard(header.producer_id)
                elif not (header.attributes & _TRANSACTIONAL and header.producer_id in aborted):
                    found += records(data, header, at, from_offset=self.positions[one])
                self.positions[one] = header.next_offset
        except ProtocolError as error:
            raise StateError(ErrorCode.CORRUPT_BATCH, f"{one} at {self.positions[one]}: {error}") from None
        return found


def _commits(data: Any, header: Any, at: int) -> bool:
    return any(parse_control(one)[0] for one in records(data, header, at, control=True))
