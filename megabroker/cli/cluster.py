"""A cluster as commands ask it: any broker, a certain one, the leader of a partition, a group's coordinator.

Owns the connections, one a broker, each opened when it is first needed, and what is known of who leads what.
What changes meanwhile (a leader, a coordinator that is still being found) is asked again for a while; a
refusal that stays is a RequestError with a sentence. Reads topics by name, and so never uses versions that
want topic ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from megabroker.cli.kafka_client import KafkaClient
from megabroker.cli.refusals import check
from megabroker.errors import ErrorCode, StateError
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import find_coordinator, init_producer_id, list_offsets
from megabroker.protocols.kafka.schema import metadata as about_topics
from megabroker.protocols.kafka.schema.fields import Message

if TYPE_CHECKING:
    import ssl

    from megabroker.cli.login import Login

__all__ = ["EARLIEST", "LATEST", "MOVED", "Address", "Cluster", "Credentials", "Partition"]

EARLIEST: Final = -2
LATEST: Final = -1
"""What stands for a timestamp where an offset is asked for."""

_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2
_NOT_THERE_YET: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
MOVED: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_OR_FOLLOWER,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
    }
)
"""Codes after which it is worth to ask who leads a partition now."""


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


class Credentials(NamedTuple):
    """By what means every broker is connected to."""

    tls: ssl.SSLContext | None = None
    login: Login | None = None


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class Cluster:
    """Asks the brokers of a cluster; use it as a context manager, which closes its connections.

    Args:
        brokers: some of them, tried in turn.
        seconds: how long to wait for a connection, and for each answer.
    """

    def __init__(self, brokers: Sequence[Address], credentials: Credentials, seconds: float = 30.0) -> None:
        self._brokers = brokers
        self._credentials = credentials
        self._seconds = seconds
        self._any: KafkaClient | None = None
        self._nodes: dict[int, KafkaClient] = {}
        self._addresses: dict[int, Address] = {}
        self._leaders: dict[Partition, int] = {}
        self._coordinators: dict[tuple[str, int], int] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections."""
        for client in [*self._nodes.values(), *([self._any] if self._any else [])]:
            client.close()
        self._nodes.clear()
        self._any = None

    # --- whom to ask ------------------------------------------------------------------------------

    @property
    def any(self) -> KafkaClient:
        """A connection to the first of the brokers that were named, and can be reached. Raises StateError."""
        if self._any is None:
            last: StateError | None = None
            for address in self._brokers:
                try:
                    self._any = self._connected(address)
                    break
                except StateError as error:
                    last = error
            else:
                assert last is not None
                raise last
        return self._any

    def node(self, node_id: int) -> KafkaClient:
        """A connection to a broker. Raises StateError."""
        client = self._nodes.get(node_id)
        if client is None:
            client = self._nodes[node_id] = self.separate(node_id)
        return client

    def separate(self, node_id: int) -> KafkaClient:
        """A connection of its own to a broker, which whoever asked for it closes. Raises StateError."""
        if node_id not in self._addresses:
            self.metadata([])
        if node_id not in self._addresses:
            raise StateError(ErrorCode.UNREACHABLE, f"broker {node_id} is away")
        return self._connected(self._addresses[node_id])

    def forget(self, client: KafkaClient) -> None:
        """Take a connection that failed out of use."""
        client.close()
        self._nodes = {node: one for node, one in self._nodes.items() if one is not client}
        if client is self._any:
            self._any = None

    def _connected(self, address: Address) -> KafkaClient:
        return KafkaClient(*address, *self._credentials, self._seconds).__enter__()

    @property
    def node_ids(self) -> list[int]:
        """The brokers there are."""
        if not self._addresses:
            self.metadata([])
        return sorted(self._addresses)

    def ask(self, request: Message, most: int | None = None) -> Any:
        """Ask any broker. Raises StateError."""
        return self.any.ask(request, most=most)

    def producer_identity(self) -> tuple[int, int]:
        """Return a new producer id and epoch, asking until there is one. Raises RequestError, StateError."""
        made: list[Any] = []

        def once() -> int:
            request = init_producer_id.Request(transactional_id=None, transaction_timeout_ms=0)
            made[:] = [self.ask(request, most=4)]
            return int(made[0].error_code)

        _Again(_NOT_THERE_YET).until_done(once, "no producer id for idempotence (see --no-idempotent)")
        return made[0].producer_id, made[0].producer_epoch

    # --- topics -----------------------------------------------------------------------------------

    def metadata(self, topics: Iterable[str] | None = None) -> Any:
        """Ask for brokers and topics, all of them for None, and remember who leads. Raises StateError."""
        rows = None if topics is None else [about_topics.Request.Topic(name=name) for name in topics]
        return self._remembered(about_topics.Request(topics=rows, allow_auto_topic_creation=False))

    def making_metadata(self, topic: str) -> Any:
        """Ask for a topic that is made if it is not there, and the broker does so. Raises StateError."""
        row = about_topics.Request.Topic(name=topic)
        return self._remembered(about_topics.Request(topics=[row], allow_auto_topic_creation=True))

    def _remembered(self, request: about_topics.Request) -> Any:
        answer = self.ask(request)
        self._addresses = {one.node_id: Address(one.host, one.port) for one in answer.brokers}
        for topic in answer.topics:
            for row in topic.partitions:
                self._leaders[Partition(topic.name, row.partition_index)] = row.leader_id
        return answer

    def partitions(self, topics: Sequence[str]) -> dict[str, list[int]]:
        """Return the partitions of topics. Raises RequestError: there is no such topic; StateError."""
        found = {}
        for topic in self.metadata(topics).topics:
            check(topic.error_code, None, f"topic {topic.name}")
            found[topic.name] = sorted(row.partition_index for row in topic.partitions)
        return found

    def by_leader(self, partitions: Iterable[Partition], *, anew: bool = False) -> dict[int, list[Partition]]:
        """Sort partitions by who leads them; those that nobody does are left out. Raises StateError."""
        wanted = list(partitions)
        unknown = sorted({one.topic for one in wanted if anew or one not in self._leaders})
        if unknown:
            self.metadata(unknown)
        found: dict[int, list[Partition]] = {}
        for one in wanted:
            leader = self._leaders.get(one, -1)
            if leader >= 0:
                found.setdefault(leader, []).append(one)
        return found

    def offsets(
        self, wanted: Mapping[Partition, int], *, committed: bool = False
    ) -> dict[Partition, int | None]:
        """Return the offsets at points in time, each a timestamp in ms or EARLIEST or LATEST.

        None is for a partition without a message at that time or later. Asks leaders again while they change.

        Args:
            committed: LATEST is before the first transaction that is open.

        Raises:
            RequestError: refused. StateError: unreachable.
        """
        found: dict[Partition, int | None] = {}

        def once() -> int:
            missing = {one for one in wanted if one not in found}
            worst = int(KafkaError.LEADER_NOT_AVAILABLE)
            for leader, some in self.by_leader(missing, anew=bool(found) or again.begun).items():
                answer = self.node(leader).ask(_list_offsets(some, wanted, committed))
                for topic in answer.topics:
                    for row in topic.partitions:
                        one = Partition(topic.name, row.partition_index)
                        if one not in missing:
                            continue
                        if row.error_code in MOVED:
                            worst = row.error_code
                            continue
                        check(row.error_code, None, str(one))
                        found[one] = row.offset if row.offset >= 0 else None
            return 0 if len(found) == len(wanted) else worst

        again = _Again(MOVED)
        again.until_done(once, "who leads the partitions")
        return found

    # --- groups -----------------------------------------------------------------------------------

    def coordinator(self, key: str, key_type: int = 0) -> int:
        """Return the broker that coordinates a group, asking until there is one. Raises StateError."""
        known = self._coordinators.get((key, key_type))
        if known is not None:
            return known

        def once() -> int:
            client = self.any
            newer = client.version(find_coordinator.Request.__schema__.key) >= 4
            keys = {"coordinator_keys": [key]} if newer else {"key": key}
            answer = client.ask(find_coordinator.Request(key_type=key_type, **keys))
            row = answer.coordinators[0] if newer else answer
            if not row.error_code:
                self._addresses.setdefault(row.node_id, Address(row.host, row.port))
                self._coordinators[key, key_type] = row.node_id
            elif row.error_code not in _NOT_THERE_YET:
                check(row.error_code, row.error_message, f"group {key}")
            return int(row.error_code)

        _Again(_NOT_THERE_YET).until_done(once, f"the coordinator of group {key}")
        return self._coordinators[key, key_type]

    def ask_coordinator(
        self, group: str, request: Message, code: Callable[[Any], int], most: int | None = None
    ) -> Any:
        """Ask the coordinator of a group, another one if it is not it any more.

        Args:
            code: finds in an answer the code that says so.

        Raises:
            StateError: unreachable, or not there for half a minute.
        """
        answers: list[Any] = []

        def once() -> int:
            answers[:] = [self.node(self.coordinator(group)).ask(request, most=most)]
            refused = code(answers[0])
            if refused in _NOT_THERE_YET:
                self._coordinators.clear()
                return refused
            return 0

        _Again(_NOT_THERE_YET).until_done(once, f"the coordinator of group {group}")
        return answers[0]


class _Again:
    """Does something again while it is refused for a reason that passes."""

    def __init__(self, reasons: frozenset[KafkaError]) -> None:
        self._reasons = reasons
        self.begun = False

    def until_done(self, once: Callable[[], int], what: str) -> None:
        """Call until it returns 0. Raises StateError(TIMED_OUT) after half a minute."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (code := once()) in self._reasons:
            self.begun = True
            if time.monotonic() > deadline:
                name = KafkaError(code).name
                raise StateError(ErrorCode.TIMED_OUT, f"{what}: {name} for {_PATIENCE_SECONDS:g} s")
            time.sleep(_PAUSE_SECONDS)
        if code:
            check(code, None, what)


def _list_offsets(
    partitions: Iterable[Partition], wanted: Mapping[Partition, int], committed: bool
) -> list_offsets.Request:
    rows: dict[str, list[Any]] = {}
    for one in partitions:
        row = list_offsets.Request.Topic.Partition(partition_index=one.number, timestamp=wanted[one])
        rows.setdefault(one.topic, []).append(row)
    topics = [list_offsets.Request.Topic(name=name, partitions=some) for name, some in rows.items()]
    return list_offsets.Request(
        replica_id=-1, isolation_level=int(committed), topics=topics, timeout_ms=30_000
    )
