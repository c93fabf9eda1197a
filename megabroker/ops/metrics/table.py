"""The table of all metrics: name, kind, labels, what it says, and where it is read.

Owns the names, which dashboards and alerts of users depend on: a row may be added; one that is renamed is
missed. Follows Prometheus's conventions: base units, ``_total`` for what only grows, and no label whose
values clients can make up but topic, partition and group, whose number the configuration bounds.

``docs/observability.md`` shows the same table; a test compares them.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import twisted
from megabroker import __version__
from megabroker.latency import Latency
from megabroker.ops.metrics.service import Sources

__all__ = ["BROKER", "COUNTER", "FAMILIES", "GAUGE", "GROUP_FAMILIES", "HISTOGRAM", "LEFT_OUT"]
__all__ += ["PARTITION", "TOPIC", "Family", "Row"]

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

Sample = tuple[tuple[str, ...], Any]


class Family(NamedTuple):
    """What all samples of a name have in common."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


class Row(NamedTuple):
    """A metric and how it is read: of everything, of a topic's partitions, or of one partition."""

    family: Family
    read: Callable[[Any], Any]


def _row(
    name: str,
    kind: str,
    text: str,
    read: Callable[[Sources], Iterable[Sample]],
    labels: tuple[str, ...] = (),
) -> Row:
    return Row(Family(name, kind, text, labels), read)


def _value(path: str, scale: float = 1) -> Callable[[Sources], Iterable[Sample]]:
    """Read one number, or latency, by its path; stores in memory have not all that others have."""
    names = path.split(".")

    def read(sources: Sources) -> Iterable[Sample]:
        found: Any = sources
        for name in names:
            found = getattr(found, name, None)
            if found is None:
                return ()
        if isinstance(found, Latency):
            return [((), _histogram(found))]
        return [((), found / scale if scale != 1 else found)]

    return read


def _length(path: str) -> Callable[[Sources], Iterable[Sample]]:
    value = _value(path)
    return lambda sources: [((), len(found)) for _, found in value(sources)]


def _histogram(latency: Latency) -> tuple[list[int], float]:
    return list(latency.counts), latency.seconds


def _counted(name: str, scale: float = 1) -> Callable[[Sources], Iterable[Sample]]:
    """Read a number of all listeners, by protocol."""

    def read(sources: Sources) -> Iterable[Sample]:
        found: dict[str, float] = {}
        for factory in sources.factories():
            protocol = factory.listener.protocol
            found[protocol] = found.get(protocol, 0) + getattr(factory.counts, name)
        return [((protocol,), value / scale if scale != 1 else value) for protocol, value in found.items()]

    return read


def _connections(sources: Sources) -> Iterable[Sample]:
    found: dict[str, int] = {}
    for factory in sources.factories():
        protocol = factory.listener.protocol
        found[protocol] = found.get(protocol, 0) + len(factory.connections)
    http = sources.http()
    if http is not None:
        found["http"] = len(http.connections)
    return [((protocol,), value) for protocol, value in found.items()]


def _requests(sources: Sources) -> Iterable[Sample]:
    found: dict[tuple[str, str], tuple[list[int], float]] = {}
    for factory in sources.factories():
        for api, latency in list(factory.counts.latencies.items()):
            key = factory.listener.protocol, api
            counts, seconds = _histogram(latency)
            if key in found:
                counts = [one + other for one, other in zip(counts, found[key][0], strict=True)]
                seconds += found[key][1]
            found[key] = counts, seconds
    return list(found.items())


def _limits(sources: Sources) -> Iterable[Sample]:
    """Add up how often limits were met, wherever that is counted."""
    broker = sources.broker
    found = Counter(dict.fromkeys(_LIMITS, 0))
    for met in (
        broker.admission.limits_met,
        broker.topics.limits_met,
        *(factory.counts.limits for factory in sources.factories()),
    ):
        found.update(met)
    found["limits.unread_answer_bytes"] += broker.admission.unread.closed
    found["limits.unwritten_bytes"] += broker.topics.backlog.waits
    found["dedup.max_entries"] += broker.dedup.evicted
    found.update(broker.topics.producer_room.forgotten)
    for room in (broker.groups.room, broker.shares.room):
        found["groups.max_groups"] += room.refused_groups
        found["groups.max_member_bytes"] += room.refused_members
        found["groups.max_offsets"] += room.refused_offsets
    found["shares.max_sessions"] += broker.shares.sessions.refused
    transactions = broker.transactions
    found["transactions.max_transactional_ids"] += getattr(transactions, "refused_ids", 0)
    found["transactions.max_offsets"] += getattr(transactions, "refused_offsets", 0)
    for factory in sources.factories():
        sessions = getattr(factory, "fetch_sessions", None)
        if sessions is not None:
            found["protocols.kafka.max_fetch_sessions"] += sessions.evicted + sessions.refused
    return [((key,), count) for key, count in found.items()]


_LIMITS: Final = (
    "limits.max_connections",
    "limits.max_connections_per_address",
    "limits.max_request_bytes",
    "limits.in_flight_bytes",
    "limits.unwritten_bytes",
    "limits.partial_frame_seconds",
    "limits.idle_seconds",
    "limits.unauthenticated_seconds",
    "limits.unauthenticated_bytes",
    "limits.output_buffer_bytes",
    "limits.unread_answer_bytes",
    "consumer_channel_buffer_size",
    "dedup.max_entries",
    "groups.max_groups",
    "groups.max_member_bytes",
    "groups.max_offsets",
    "protocols.cursus.max_frame_bytes",
    "protocols.kafka.max_fetch_sessions",
    "protocols.mega.max_payload_bytes",
    "producers.max_per_partition",
    "producers.max_producers",
    "shares.max_sessions",
    "topics.max_partitions",
    "topics.max_topics",
    "transactions.max_offsets",
    "transactions.max_transactional_ids",
)
"""Limits that are told of before they are met for the first time."""


def _groups(sources: Sources) -> Iterable[Sample]:
    found: dict[tuple[str, str], int] = {}
    for group in (*sources.broker.groups.overview(), *sources.broker.shares.overview()):
        key = group.group_type, group.state
        found[key] = found.get(key, 0) + 1
    return list(found.items())


def _rebalances(sources: Sources) -> Iterable[Sample]:
    found = {**sources.broker.groups.rebalances(), "share": sources.broker.shares.rebalances}
    return [((kind,), count) for kind, count in found.items()]


def _http_requests(sources: Sources) -> Iterable[Sample]:
    """Read what HTTP has answered, by routes of which there are so many."""
    http = sources.http()
    answers = {} if http is None else dict(http.answers)
    return [((method, path, str(status)), count) for (method, path, status), count in answers.items()]


def _messages(sources: Sources) -> Iterable[Sample]:
    """Add up what the produce requests of all wires took."""
    total: Latency = Latency()
    for factory in sources.factories():
        for api in ("Produce", "PRODUCE", "PUBLISH"):
            latency = factory.counts.latencies.get(api)
            if latency is not None:
                counts, seconds = _histogram(latency)
                total.counts = [one + other for one, other in zip(total.counts, counts, strict=True)]
                total.seconds += seconds
    return [((), _histogram(total))]


def _collections(sources: Sources) -> Iterable[Sample]:
    return [
        ((str(generation),), _histogram(latency))
        for generation, latency in enumerate(sources.pauses.collections)
    ]


def _rounds(sources: Sources) -> Iterable[Sample]:
    disk = getattr(sources.logs, "disk", None)
    return [] if disk is None else [(("thread",), disk.turns), (("reactor",), disk.turns_in_place)]


def _build(sources: Sources) -> Iterable[Sample]:
    compiled = "yes" if sources.compiled else "no"
    labels = __version__, platform.python_version(), twisted.__version__, compiled
    return [(labels, 1)]


_BY_PROTOCOL: Final = ("protocol",)
_BY_ROUTE: Final = ("method", "path", "status")

BROKER: Final[Sequence[Row]] = (
    _row(
        "megabroker_build_info",
        GAUGE,
        "What is running; always 1.",
        _build,
        ("version", "python", "twisted", "compiled"),
    ),
    _row(
        "megabroker_recovery_seconds",
        GAUGE,
        "Time to open everything at start.",
        _value("recovery_seconds"),
    ),
    _row("megabroker_connections", GAUGE, "Open connections.", _connections, _BY_PROTOCOL),
    _row(
        "megabroker_connections_opened_total",
        COUNTER,
        "Connections accepted.",
        _counted("opened"),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_connections_refused_total",
        COUNTER,
        "Connections closed at once because of a limit or quota.",
        _counted("refused"),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_authentication_failures_total",
        COUNTER,
        "Failed authentications.",
        _counted("denied"),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_protocol_errors_total",
        COUNTER,
        "Connections closed because of protocol errors.",
        _counted("violations"),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_internal_errors_total",
        COUNTER,
        "Connections closed because of an internal error.",
        _counted("failures"),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_throttles_total",
        COUNTER,
        "Times that a client was throttled by a quota.",
        _counted("throttled"),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_throttle_seconds_total",
        COUNTER,
        "Total time of throttling.",
        _counted("throttled_ms", 1000),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_received_bytes_total",
        COUNTER,
        "Bytes of requests received.",
        _counted("received_bytes"),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_sent_bytes_total",
        COUNTER,
        "Bytes of answers passed to sockets.",
        _counted("sent_bytes"),
        _BY_PROTOCOL,
    ),
    _row(
        "megabroker_request_duration_seconds",
        HISTOGRAM,
        "Time from receiving a request to the end of the reactor turn that answered it, waiting included.",
        _requests,
        ("protocol", "api"),
    ),
    _row(
        "megabroker_limit_hits_total",
        COUNTER,
        "Times that a limit was reached, by its configuration key.",
        _limits,
        ("limit",),
    ),
    _row(
        "megabroker_in_flight_bytes",
        GAUGE,
        "Bytes of requests received and not yet answered.",
        _value("broker.admission.charged_bytes"),
    ),
    _row(
        "megabroker_reserved_bytes",
        GAUGE,
        "Bytes reserved for long requests that are being received.",
        _value("broker.admission.reserved_bytes"),
    ),
    _row(
        "megabroker_unread_answer_bytes",
        GAUGE,
        "Bytes of answers waiting to be read by clients.",
        _value("broker.admission.unread.held_bytes"),
    ),
    _row(
        "megabroker_unwritten_bytes",
        GAUGE,
        "Bytes of records waiting to be written, without small queues.",
        _value("broker.topics.backlog.queued_bytes"),
    ),
    _row(
        "megabroker_reactor_turn_seconds",
        HISTOGRAM,
        "Duration of reactor turns.",
        _value("broker.turns.lengths"),
    ),
    _row(
        "megabroker_reactor_lag_seconds",
        HISTOGRAM,
        "Delay of a call that is scheduled every second.",
        _value("pauses.lag"),
    ),
    _row(
        "megabroker_gc_pause_seconds",
        HISTOGRAM,
        "Duration of garbage collections.",
        _collections,
        ("generation",),
    ),
    _row(
        "megabroker_disk_written_bytes_total",
        COUNTER,
        "Bytes written to segments.",
        _value("logs.disk.written_bytes"),
    ),
    _row("megabroker_disk_rounds_total", COUNTER, "Rounds of writing, by thread.", _rounds, ("by",)),
    _row(
        "megabroker_disk_write_seconds",
        HISTOGRAM,
        "Duration of rounds of writing.",
        _value("logs.disk.write_latency"),
    ),
    _row(
        "megabroker_disk_sync_seconds",
        HISTOGRAM,
        "Duration of rounds of syncing.",
        _value("logs.disk.syncing.latency"),
    ),
    _row(
        "megabroker_disk_synced_logs_total",
        COUNTER,
        "Logs synced in all rounds.",
        _value("logs.disk.syncing.synced_logs"),
    ),
    _row(
        "megabroker_disk_syncs_total",
        COUNTER,
        "Files synced, the journal among them.",
        _value("logs.disk.syncs"),
    ),
    _row(
        "megabroker_disk_write_failures_total",
        COUNTER,
        "Writes that failed.",
        _value("logs.disk.failed_writes"),
    ),
    _row(
        "megabroker_disk_sync_failures_total",
        COUNTER,
        "Logs that could not be synced.",
        _value("logs.disk.syncing.failures"),
    ),
    _row(
        "megabroker_disk_queued_logs",
        GAUGE,
        "Logs waiting for the disk thread.",
        _value("logs.disk.queued_lanes"),
    ),
    _row(
        "megabroker_disk_queued_chores",
        GAUGE,
        "Background jobs waiting for their thread.",
        _value("logs.disk.queued_chores"),
    ),
    _row(
        "megabroker_sync_journal_ready",
        GAUGE,
        "Whether the sync journal is in use, as 0 or 1.",
        _value("logs.disk.syncing.journal.ready"),
    ),
    _row(
        "megabroker_page_cache_hits_total",
        COUNTER,
        "Reads of data in the page cache.",
        _value("logs.warmer.hits"),
    ),
    _row(
        "megabroker_cold_reads_total",
        COUNTER,
        "Reads of data not in the page cache.",
        _value("logs.warmer.readings"),
    ),
    _row(
        "megabroker_cold_read_seconds",
        HISTOGRAM,
        "Duration of reads of data not in the page cache, including waiting for a thread.",
        _value("logs.warmer.latency"),
    ),
    _row(
        "megabroker_cold_reads_queued",
        GAUGE,
        "Reads of data not in the page cache that are in progress.",
        _value("logs.warmer.queued"),
    ),
    _row(
        "megabroker_cold_reads_crowded_total",
        COUNTER,
        "Times that no further read could be queued.",
        _value("logs.warmer.crowded"),
    ),
    _row(
        "megabroker_retention_removed_segments_total",
        COUNTER,
        "Segments removed.",
        _value("logs.disk.removed_segments"),
    ),
    _row(
        "megabroker_retention_removed_bytes_total",
        COUNTER,
        "Bytes of segments removed.",
        _value("logs.disk.removed_bytes"),
    ),
    _row(
        "megabroker_compactions_total",
        COUNTER,
        "Compactions that removed records.",
        _value("logs.cleaner.cleaned"),
    ),
    _row(
        "megabroker_compaction_removed_bytes_total",
        COUNTER,
        "Bytes removed by compaction.",
        _value("logs.disk.compacted_bytes"),
    ),
    _row(
        "megabroker_metadata_commit_seconds",
        HISTOGRAM,
        "Duration of metadata store transactions.",
        _value("metadata.commit_latency"),
    ),
    _row(
        "megabroker_metadata_writes_total",
        COUNTER,
        "Writes committed by metadata store transactions.",
        _value("metadata.writes"),
    ),
    _row(
        "megabroker_metadata_commit_failures_total",
        COUNTER,
        "Metadata store transactions that failed.",
        _value("metadata.failed_commits"),
    ),
    _row(
        "megabroker_deduplicated_messages_total",
        COUNTER,
        "Repeated messages that were not stored again.",
        _value("broker.dedup.hits"),
    ),
    _row(
        "megabroker_deduplication_entries", GAUGE, "Ids in the deduplication window.", _length("broker.dedup")
    ),
    _row(
        "megabroker_deduplication_journal_failures_total",
        COUNTER,
        "Ids that could not be written to the journal.",
        _value("broker.dedup.journal_failures"),
    ),
    _row("megabroker_topics", GAUGE, "Number of topics.", _length("broker.topics.all_names")),
    _row("megabroker_groups", GAUGE, "Groups coordinated by this process.", _groups, ("type", "state")),
    _row(
        "megabroker_group_rebalances_total",
        COUNTER,
        "Generations and epochs of groups that have begun.",
        _rebalances,
        ("type",),
    ),
    _row(
        "megabroker_transactional_ids",
        GAUGE,
        "Transactional ids remembered.",
        _value("broker.transactions.id_count"),
    ),
    _row(
        "megabroker_share_sessions",
        GAUGE,
        "Open share sessions.",
        _length("broker.shares.sessions"),
    ),
    _row(
        "megabroker_http_requests_total",
        COUNTER,
        "HTTP requests answered; the path is empty if there is no such route.",
        _http_requests,
        _BY_ROUTE,
    ),
    _row(
        "broker_message_latency_seconds",
        HISTOGRAM,
        "Duration of produce requests of all protocols.",
        _messages,
    ),
    _row(
        "broker_cleanup_count_total",
        COUNTER,
        "Segments removed; as the above.",
        _value("logs.disk.removed_segments"),
    ),
)
"""Read at once."""

_BY_TOPIC: Final = ("topic",)
_BY_PARTITION: Final = ("topic", "partition")


def _topic(name: str, kind: str, text: str, read: Callable[[Any], int]) -> Row:
    return Row(Family(f"megabroker_topic_{name}", kind, text, _BY_TOPIC), read)


def _partition(name: str, text: str, read: Callable[[Any], int]) -> Row:
    return Row(Family(f"megabroker_partition_{name}", GAUGE, text, _BY_PARTITION), read)


TOPIC: Final[Sequence[Row]] = (
    _topic(
        "produced_records_total", COUNTER, "Records produced since the start.", lambda p: p.appended_records
    ),
    _topic("produced_bytes_total", COUNTER, "Bytes of batches produced.", lambda p: p.appended_bytes),
    _topic("produced_batches_total", COUNTER, "Batches produced.", lambda p: p.appended_batches),
    _topic(
        "fetched_bytes_total",
        COUNTER,
        "Bytes of batches fetched by Kafka consumers.",
        lambda p: p.fetched_bytes,
    ),
    _topic(
        "size_bytes",
        GAUGE,
        "Size of the logs of the partitions led by this process.",
        lambda p: p.log.size_bytes,
    ),
    _topic(
        "full_queue_waits_total",
        COUNTER,
        "How often a producer found a partition's queue full "
        "(partition_channel_buffer_size, partition_channel_buffer_bytes).",
        lambda p: p.waited_for_room,
    ),
    _topic(
        "forgotten_producers_total",
        COUNTER,
        "Idempotent producers forgotten because of producers.max_per_partition.",
        lambda p: p.producers.evicted,
    ),
)
"""Added up over the partitions of a topic that this process leads."""

PARTITION: Final[Sequence[Row]] = (
    _partition(
        "high_watermark", "High watermark: consumers see records below it.", lambda p: p.high_watermark
    ),
    _partition("log_end_offset", "Offset of the next record.", lambda p: p.log.next_offset),
    _partition("log_start_offset", "First readable offset.", lambda p: p.log.start_offset),
    _partition("size_bytes", "Size of the log.", lambda p: p.log.size_bytes),
    _partition("queued_bytes", "Bytes accepted and not yet written.", lambda p: p.log.pending_bytes),
)
"""Of each partition that this process leads."""

ALL: Final = (
    Family("megabroker_partitions", GAUGE, "Partitions led by this process."),
    Family("megabroker_partitions_out_of_order", GAUGE, "Partitions whose logs cannot be opened or written."),
    Family("megabroker_damaged_ranges", GAUGE, "Damaged ranges of logs."),
    Family("megabroker_idempotent_producers", GAUGE, "Idempotent producers remembered by partitions."),
    Family("megabroker_produced_records_total", COUNTER, "Records produced, including deleted topics."),
    Family("megabroker_produced_bytes_total", COUNTER, "Bytes of batches produced."),
    Family("megabroker_produced_batches_total", COUNTER, "Batches produced."),
    Family("megabroker_fetched_bytes_total", COUNTER, "Bytes of batches fetched by Kafka consumers."),
    Family("broker_messages_processed_total", COUNTER, "Records produced; as the above."),
    Family("broker_messages_per_second", GAUGE, "Records produced per second since the previous scrape."),
    Family("broker_queue_size", GAUGE, "Records accepted and not yet written."),
)
"""Added up over all partitions, in this order (``gathering``)."""

GROUP_FAMILIES: Final = (
    Family("megabroker_group_members", GAUGE, "Members of a group.", ("group",)),
    Family(
        "megabroker_group_generation",
        GAUGE,
        "Generation or epoch; increases with each rebalance.",
        ("group",),
    ),
    Family(
        "megabroker_group_lag",
        GAUGE,
        "Records between the committed offset and the high watermark.",
        ("group", *_BY_PARTITION),
    ),
)
"""Of each group that this process coordinates; lag of the partitions that it leads."""

CONNECTION_FAMILIES: Final = (
    Family("megabroker_requests_unanswered", GAUGE, "Requests accepted and not yet answered.", _BY_PROTOCOL),
    Family("megabroker_fetches_waiting", GAUGE, "Fetches waiting for data.", _BY_PROTOCOL),
    Family("megabroker_transactions_open", GAUGE, "Transactions in progress, by state.", ("state",)),
)
"""Added up over all connections; and over all transactional ids."""

LEFT_OUT: Final = Family(
    "megabroker_metrics_left_out", GAUGE, "Series omitted because of metrics.max_series.", ("of",)
)

FAMILIES: Final = (
    *(row.family for row in BROKER),
    *ALL,
    *CONNECTION_FAMILIES,
    *(row.family for row in TOPIC),
    *(row.family for row in PARTITION),
    *GROUP_FAMILIES,
    LEFT_OUT,
)
"""Every metric but those of the process itself."""
