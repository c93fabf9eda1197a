"""Known bugs, planted into the broker: the simulation finds each within some seeds, by the rule it breaks.

A rule that no planted bug makes speak might as well not be there, so there is one for every rule at least.
The same seed without the bug breaks none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import succeed

from megabroker.core.groups import classic_groups
from megabroker.core.partitions import PartitionService
from megabroker.core.producers import ProducerTable
from megabroker.core.shares.share_partition import SharePartition
from megabroker.core.transactions.markers import Markers
from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Durability
from megabroker.simulation import files, rules
from megabroker.simulation.plan import Plan
from megabroker.simulation.rows import SimulatedMetadataStore
from megabroker.simulation.window import SimulatedWindowStore
from megabroker.simulation.world import World
from megabroker.storage import checking, log, retention
from megabroker.storage.cleaning import CleanedTransactions, OffsetMap
from megabroker.storage.directories import DataDirectories
from megabroker.storage.log import LocalLog
from megabroker.storage.replay import Replay
from megabroker.storage.store import LocalLogStore

Patch = pytest.MonkeyPatch

PLAN = Plan(
    durability=Durability.FSYNC,
    partitions=(2,),
    segment_bytes=12_000,
    clients={},
    faults=(),
    pause_seconds=0.3,
    seconds=4.0,
)
CUTS = attrs.evolve(PLAN, clients={"plain": 2, "reader": 2}, faults=("power loss",))
KILLS = attrs.evolve(PLAN, faults=("kill",))
REPEATS = attrs.evolve(PLAN, clients={"idempotent": 2}, faults=("reset", "full disk"))
FAILURES = attrs.evolve(
    PLAN, partitions=(1,), clients={"idempotent": 3}, faults=("io error",), pause_seconds=0.1
)
COMPACTION = attrs.evolve(
    PLAN, segment_bytes=4096, kinds=("compact",), clients={"plain": 2, "transactional": 2}, seconds=6.0
)
TRIMMING = attrs.evolve(
    KILLS,
    segment_bytes=4096,
    partitions=(1,),
    kinds=("trimmed",),
    clients={"plain": 2, "trimmer": 1},
    pause_seconds=2.0,
    seconds=8.0,
)
SHARING = attrs.evolve(PLAN, clients={"plain": 1, "share member": 2}, pause_seconds=1.0)
TRANSACTIONS = attrs.evolve(PLAN, clients={"transactional": 2, "reader": 1})


def acknowledge_before_the_sync(patch: Patch) -> None:
    told = PartitionService.progressed
    patch.setattr(PartitionService, "progressed", lambda self, written, durable: told(self, written, written))


def forget_to_sync(patch: Patch) -> None:
    patch.setattr(LocalLog, "take_dirty", lambda self: None)


def forget_the_journal(patch: Patch) -> None:
    patch.setattr(Replay, "run", lambda self, path: None)


def believe_torn_batches(patch: Patch) -> None:
    patch.setattr(checking, "check_crc", lambda buffer, position, header: True)


def take_repeats_for_new(patch: Patch) -> None:
    patch.setattr(ProducerTable, "check", lambda self, header: None)


def show_what_is_not_durable(patch: Patch) -> None:
    patch.setattr(files, "_SYNC_SECONDS", 0.5)
    told = PartitionService.progressed

    def progressed(self: Any, written: int, durable: int) -> None:
        told(self, written, durable)
        self.high_watermark = max(self.high_watermark, written)

    patch.setattr(PartitionService, "progressed", progressed)


def keep_deleted_logs(patch: Patch) -> None:
    def delete(self: Any, partition: Any) -> Any:
        gone = StorageError(ErrorCode.STORAGE, "deleted")
        self._logs.pop(partition).abandon(gone)
        return succeed(None)

    patch.setattr(LocalLogStore, "delete", delete)
    patch.setattr(LocalLogStore, "_check_topic_id", lambda self, directory, topic: False)


def forget_what_was_aborted(patch: Patch) -> None:
    patch.setattr(LocalLog, "aborted", lambda self, first, end: [])


def abort_in_one_partition(patch: Patch) -> None:
    append = PartitionService.append_marker

    def append_marker(self: Any, marker: Any, done: Any) -> int:
        if self.topic_partition.partition == 0:
            marker = marker._replace(commit=False)
        return append(self, marker, done)

    patch.setattr(PartitionService, "append_marker", append_marker)


def lose_markers(patch: Patch) -> None:
    patch.setattr(Markers, "_ask", lambda self, asked, where: None)


def shift_offsets(by: int) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        append = LocalLog.append

        def shifted(self: Any, *args: Any) -> int:
            if self.next_offset % 10 == 9:
                self.next_offset += by
            return append(self, *args)

        patch.setattr(LocalLog, "append", shifted)

    return plant


def do_not_store(table: str) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        write = SimulatedMetadataStore.write

        def partly(self: Any, changes: Any) -> Any:
            return write(
                self, [change for change in changes if change.table != table or change.value is None]
            )

        patch.setattr(SimulatedMetadataStore, "write", partly)

    return plant


def tell_generations_at_once(patch: Patch) -> None:
    def answer(self: Any, group: Any, action: Any) -> None:
        self._answer(action)

    patch.setitem(classic_groups._CARRIERS, classic_groups.Answer, answer)
    do_not_store("groups")(patch)


def forget_the_window(patch: Patch) -> None:
    patch.setattr(SimulatedWindowStore, "append", lambda self, entries: None)


def drop_the_newest(patch: Patch) -> None:
    newest = OffsetMap.newest
    patch.setattr(OffsetMap, "newest", lambda self, key: newest(self, key) + 1)


def take_aborted_for_newest(patch: Patch) -> None:
    patch.setattr(CleanedTransactions, "data", lambda self, header: False)


def delete_one_segment_more(patch: Patch) -> None:
    def more(segments: Any, *args: Any, **kwargs: Any) -> int:
        return min(retention.expired(segments, *args, **kwargs) + 1, len(segments.items) - 1)

    patch.setattr(log, "expired", more)


def do_not_save_starts(patch: Patch) -> None:
    patch.setattr(DataDirectories, "save_checkpoints", lambda self, checkpoints, *, sync: None)


def lock_nothing(patch: Patch) -> None:
    patch.setattr(SharePartition, "acquire", unlocked(SharePartition.acquire))


def unlocked(acquire: Any) -> Any:
    def acquired(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.limits = attrs.evolve(self.limits, record_lock_duration_ms=1)
        return acquire(self, *args, **kwargs)

    return acquired


def stumble(patch: Patch) -> None:
    def progressed(self: Any, written: int, durable: int) -> None:
        raise ZeroDivisionError

    patch.setattr(PartitionService, "progressed", progressed)


BUGS: list[tuple[str, Callable[[Patch], None], Plan]] = [
    ("lost-write", acknowledge_before_the_sync, CUTS),
    ("lost-write", forget_to_sync, CUTS),
    ("lost-write", forget_the_journal, attrs.evolve(CUTS, journaled=True)),
    ("unreadable", believe_torn_batches, CUTS),
    ("duplicate", take_repeats_for_new, REPEATS),
    ("acked-order", take_repeats_for_new, FAILURES),
    ("inconsistent-offset", show_what_is_not_durable, CUTS),
    ("watermark-regress", show_what_is_not_durable, CUTS),
    ("phantom", keep_deleted_logs, attrs.evolve(PLAN, clients={"administrator": 1})),
    ("aborted-read", forget_what_was_aborted, TRANSACTIONS),
    ("torn-transaction", abort_in_one_partition, TRANSACTIONS),
    ("stuck", lose_markers, TRANSACTIONS),
    ("offset-gap", shift_offsets(1), attrs.evolve(PLAN, clients={"plain": 1, "reader": 1})),
    ("offset-gap", shift_offsets(-1), attrs.evolve(PLAN, clients={"plain": 1, "reader": 1})),
    (
        "committed-offset-regress",
        do_not_store("group_offsets"),
        attrs.evolve(KILLS, clients={"plain": 2, "member": 2}),
    ),
    ("two-owners", tell_generations_at_once, attrs.evolve(KILLS, clients={"plain": 1, "member": 2})),
    ("lost-topic", do_not_store("topics"), attrs.evolve(KILLS, clients={"administrator": 1})),
    ("stored-repeat", forget_the_window, attrs.evolve(KILLS, clients={"cursus producer": 2})),
    ("newest-kept", drop_the_newest, COMPACTION),
    ("newest-kept", take_aborted_for_newest, COMPACTION),
    ("vanished", delete_one_segment_more, attrs.evolve(TRIMMING, faults=())),
    ("start-regress", do_not_save_starts, TRIMMING),
    ("accepted-again", do_not_store("share_partitions"), attrs.evolve(SHARING, faults=("kill",))),
    ("two-hands", lock_nothing, SHARING),
    ("unexpected-failure", stumble, attrs.evolve(PLAN, clients={"plain": 1}, seconds=0.5)),
]


def broken(seed: int, plan: Plan) -> set[str]:
    return {violation.rule for violation in World(seed, plan).run().violations}


@pytest.mark.parametrize(
    ("rule", "plant", "plan"), BUGS, ids=[f"{rule}-{number}" for number, (rule, _, _) in enumerate(BUGS)]
)
def test_a_planted_bug_is_found(
    rule: str, plant: Callable[[Patch], None], plan: Plan, monkeypatch: Patch
) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        found = next((seed for seed in range(60) if rule in broken(seed, plan)), None)
    assert found is not None
    assert broken(found, plan) == set()


def test_there_is_a_bug_for_every_rule() -> None:
    assert {rule.__name__.replace("_", "-") for rule in rules.RULES} <= {rule for rule, _, _ in BUGS}
