"""Committed offsets, their durability and expiry, and the administration of groups."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from megabroker.core.groups.offsets import offset_key
from megabroker.errors import BrokerError, ErrorCode, StorageError
from megabroker.model import Change, CommittedOffset, LeavingMember
from tests.unit.groups_harness import Harness, HeldStore, Outcome, tp

DAY_S = 24 * 3600


def at(offset: int, **fields) -> CommittedOffset:
    return CommittedOffset(offset, **fields)


class OffsetCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.h = Harness()

    def commit(self, offsets, generation=-1, member_id="", instance_id=None, group_id="g") -> Outcome:
        return Outcome(self.h.service.commit(group_id, generation, member_id, instance_id, offsets))

    def offsets(self, group_id: str = "g") -> dict:
        committed = self.h.service.committed(group_id, None)
        return {partition: offset.offset for partition, offset in committed.items()}

    def restart(self) -> None:
        self.h.service.stop()
        self.h = Harness(self.h.store, self.h.clock)


class CommitTests(OffsetCase):
    def test_from_outside_the_group_protocol(self) -> None:
        self.assertEqual(self.commit({tp(): at(5, leader_epoch=3, metadata="m")}).value, {tp(): None})
        [(partition, offset)] = self.h.service.committed("g", [tp(), tp("t", 1)]).items()
        self.assertEqual(partition, tp())
        self.assertEqual(offset, CommittedOffset(5, 3, "m", self.h.now_ms(), -1))
        self.assertEqual(self.h.service.all(), [("g", "", "Empty", "classic")])

    def test_of_members(self) -> None:
        leader, follower = self.h.stable(2)
        self.assertEqual(self.commit({tp(): at(1)}, 1, leader.member_id).value, {tp(): None})
        for code, arguments in [
            (ErrorCode.ILLEGAL_GENERATION, (2, leader.member_id)),
            (ErrorCode.ILLEGAL_GENERATION, (-1, leader.member_id)),
            (ErrorCode.UNKNOWN_MEMBER, (1, "x")),
            (ErrorCode.UNKNOWN_MEMBER, (1, "")),
            (ErrorCode.UNKNOWN_MEMBER, (-1, "")),
            (ErrorCode.UNKNOWN_MEMBER, (1, leader.member_id, "instance")),
        ]:
            self.assertIs(self.commit({tp(): at(9)}, *arguments).error.code, code)
        self.h.join(leader.member_id)
        self.assertEqual(self.commit({tp(): at(2)}, 1, follower.member_id).value, {tp(): None})
        self.h.join(follower.member_id)
        error = self.commit({tp(): at(9)}, 2, follower.member_id).error
        self.assertIs(error.code, ErrorCode.REBALANCE_IN_PROGRESS)
        self.assertEqual(self.offsets(), {tp(): 2})

    def test_of_a_generation_in_a_group_that_is_not_there(self) -> None:
        self.assertIs(self.commit({tp(): at(1)}, 3, "m").error.code, ErrorCode.ILLEGAL_GENERATION)
        self.assertEqual(self.h.service.all(), [])

    def test_keeps_the_session_alive(self) -> None:
        (only,) = self.h.stable(1)
        for number in range(5):
            self.h.advance(9)
            self.assertEqual(self.commit({tp(): at(number)}, 1, only.member_id).value, {tp(): None})

    def test_outcomes_are_per_partition(self) -> None:
        outcome = self.commit(
            {tp(): at(1), tp("nowhere"): at(2), tp("t", 9): at(3), tp("u"): at(4, metadata="x" * 4097)}
        )
        self.assertEqual(
            outcome.value,
            {
                tp(): None,
                tp("nowhere"): ErrorCode.UNKNOWN_PARTITION,
                tp("t", 9): ErrorCode.UNKNOWN_PARTITION,
                tp("u"): ErrorCode.OFFSET_METADATA_TOO_LARGE,
            },
        )
        self.assertEqual(self.offsets(), {tp(): 1})

    def test_of_nothing_acceptable_writes_nothing(self) -> None:
        self.h.store.hold = True
        self.assertEqual(self.commit({}).value, {})
        self.assertEqual(self.commit({tp("x"): at(1)}).value, {tp("x"): ErrorCode.UNKNOWN_PARTITION})
        self.assertEqual(self.h.store.held, [])

    def test_visible_only_when_stored(self) -> None:
        self.h.store.hold = True
        outcome = self.commit({tp(): at(1)})
        self.assertTrue(outcome.waits)
        self.assertEqual(self.offsets(), {})
        self.h.store.release()
        self.assertEqual(outcome.value, {tp(): None})
        self.assertEqual(self.offsets(), {tp(): 1})

    def test_visible_in_order_whatever_the_store_does(self) -> None:
        self.h.store.hold = True
        first, second = self.commit({tp(): at(1)}), self.commit({tp(): at(2)})
        self.h.store.release(1)
        self.assertEqual((first.waits, second.waits, self.offsets()), (True, True, {}))
        self.h.store.release(0)
        self.assertEqual((first.waits, second.waits, self.offsets()), (False, False, {tp(): 2}))

    def test_refused_by_the_store_never_was(self) -> None:
        self.commit({tp(): at(1)})
        self.h.store.hold = True
        known, unknown = self.commit({tp(): at(2)}), self.commit({tp(): at(3)})
        self.h.store.release(error=StorageError(ErrorCode.DISK_FULL, "full"))
        self.h.store.release(error=OSError("surprise"))
        self.assertIs(known.error.code, ErrorCode.DISK_FULL)
        self.assertIs(unknown.error.code, ErrorCode.STORAGE)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(self.offsets(), {tp(): 1})

    def test_refused_by_the_store_leaves_no_group(self) -> None:
        self.h.store.hold = True
        self.commit({tp(): at(2)})
        self.h.store.release(error=StorageError(ErrorCode.DISK_FULL))
        self.assertEqual(self.h.service.all(), [])

    def test_survives_a_restart(self) -> None:
        self.commit({tp(): at(5, leader_epoch=3, metadata="grüße"), tp("u", 2): at(6)}, group_id="ä\ud800,]")
        before = self.h.service.committed("ä\ud800,]", None)
        self.restart()
        self.assertEqual(self.h.service.committed("ä\ud800,]", None), before)

    def test_in_flight_when_the_service_stops_is_still_answered(self) -> None:
        self.h.store.hold = True
        outcome = self.commit({tp(): at(1)})
        self.h.service.stop()
        self.h.store.release()
        self.assertEqual(outcome.value, {tp(): None})
        self.assertIs(self.commit({tp(): at(1)}).error.code, ErrorCode.NOT_COORDINATOR)

    def test_damaged_rows_are_reported_and_the_others_kept(self) -> None:
        self.commit({tp(): at(1)})
        for key, value in [
            ("junk", {}),
            ('["g","t"]', {"offset": 1}),
            ('["g","t",1]', {"offset": "x"}),
            ('["g","t",2]', "text"),
            ('["g","t",3]', [1]),
            ("7", {"offset": 1}),
        ]:
            self.h.store.write([Change("group_offsets", key, value)])
        self.h.store.write([Change("groups", "h", {"generation": "many"}), Change("groups", "i", 3)])
        self.restart()
        self.assertEqual(self.offsets(), {tp(): 1})
        self.assertEqual([summary.group_id for summary in self.h.service.all()], ["g"])


class RestartTests(OffsetCase):
    def test_members_are_gone_and_the_generation_goes_on(self) -> None:
        (only,) = self.h.stable(1)
        self.commit({tp(): at(7)}, 1, only.member_id)
        self.restart()
        with self.assertRaises(BrokerError) as caught:
            self.h.service.heartbeat("g", 1, only.member_id, None)
        self.assertIs(caught.exception.code, ErrorCode.UNKNOWN_MEMBER)
        self.assertIs(self.h.join(only.member_id).error.code, ErrorCode.UNKNOWN_MEMBER)
        self.assertEqual(self.offsets(), {tp(): 7})
        self.assertEqual(self.h.service.all(), [("g", "consumer", "Empty", "classic")])
        self.assertEqual(self.h.stable(1)[0].generation, 2)

    def test_nobody_is_told_of_a_generation_that_is_not_stored(self) -> None:
        self.h.store.hold = True
        joining = self.h.join()
        self.h.advance(0.011)
        self.assertEqual(joining.results, [])
        self.h.store.release()
        self.assertEqual(joining.value.generation, 1)

    def test_a_store_that_fails_has_members_ask_again_until_it_does_not(self) -> None:
        self.h.store.hold = True
        joining = self.h.join()
        self.h.advance(0.011)
        for _ in range(2):  # the second is of a member that has joined already
            self.h.store.release(error=StorageError(ErrorCode.DISK_FULL))
            self.assertIs(joining.error.code, ErrorCode.COORDINATOR_LOADING)
            self.assertTrue(joining.error.retriable)
            (member,) = self.h.service.describe("g").members
            joining = self.h.join(member.member_id)
        self.h.store.release()
        self.assertEqual(joining.value.generation, 1)
        self.h.store.hold = False
        self.restart()
        self.assertEqual(self.h.stable(1)[0].generation, 2)


class DeleteTests(OffsetCase):
    def test_group(self) -> None:
        (only,) = self.h.stable(1)
        self.commit({tp(): at(1)}, 1, only.member_id)
        self.assertIs(Outcome(self.h.service.delete("g")).error.code, ErrorCode.GROUP_NOT_EMPTY)
        self.h.service.leave("g", [LeavingMember(only.member_id, None)])
        self.assertIsNone(Outcome(self.h.service.delete("g")).value)
        self.assertEqual((self.h.service.all(), self.offsets()), ([], {}))
        self.assertEqual(self.h.store.rows("group_offsets"), {})
        self.assertEqual(self.h.store.rows("groups"), {})
        self.assertIs(Outcome(self.h.service.delete("g")).error.code, ErrorCode.GROUP_NOT_FOUND)
        self.assertEqual(self.h.service.describe("g").state, "Dead")

    def test_group_with_a_commit_on_its_way_leaves_nothing_behind(self) -> None:
        self.commit({tp(): at(1)})
        self.h.store.hold = True
        commit = self.commit({tp("u"): at(1)})
        delete = Outcome(self.h.service.delete("g"))
        self.h.store.release()
        self.h.store.release()
        self.assertEqual((commit.value, delete.value), ({tp("u"): None}, None))
        self.assertEqual((self.h.service.all(), self.h.store.rows("group_offsets")), ([], {}))

    def test_group_the_store_cannot_delete_stays(self) -> None:
        self.commit({tp(): at(1)})
        self.h.store.hold = True
        delete = Outcome(self.h.service.delete("g"))
        self.h.store.release(error=StorageError(ErrorCode.STORAGE))
        self.assertIs(delete.error.code, ErrorCode.STORAGE)
        self.assertEqual(self.offsets(), {tp(): 1})

    def test_offsets_of_an_empty_group(self) -> None:
        self.commit({tp(): at(1), tp("t", 1): at(2)})
        outcome = Outcome(self.h.service.delete_offsets("g", [tp(), tp("u"), tp("x")]))
        self.assertEqual(outcome.value, {tp(): None, tp("u"): None, tp("x"): ErrorCode.UNKNOWN_PARTITION})
        self.assertEqual(self.offsets(), {tp("t", 1): 2})
        unknown = Outcome(self.h.service.delete_offsets("h", [tp()]))
        self.assertIs(unknown.error.code, ErrorCode.GROUP_NOT_FOUND)

    def test_offsets_of_a_group_with_members(self) -> None:
        (only,) = self.h.stable(1, protocols=(("range", b"t"),))
        self.commit({tp(): at(1), tp("u"): at(2)}, 1, only.member_id)
        outcome = Outcome(self.h.service.delete_offsets("g", [tp()]))
        self.assertIs(outcome.error.code, ErrorCode.GROUP_NOT_EMPTY)
        self.h.service.subscribed_topics = lambda _type, metadata: {metadata.decode()}
        outcome = Outcome(self.h.service.delete_offsets("g", [tp(), tp("u")]))
        self.assertEqual(outcome.value, {tp(): ErrorCode.SUBSCRIBED_TO_TOPIC, tp("u"): None})
        self.assertEqual(self.offsets(), {tp(): 1})

    def test_topic(self) -> None:
        self.commit({tp(): at(1), tp("u"): at(2)})
        self.commit({tp(): at(1)}, group_id="h")
        self.h.store.hold = True
        self.commit({tp("t", 3): at(3)}, group_id="h")
        self.h.service.topic_deleted("t")
        self.h.store.release()
        self.h.store.release()
        self.assertEqual((self.offsets(), self.offsets("h")), ({tp("u"): 2}, {}))
        self.assertEqual(list(self.h.store.rows("group_offsets")), [offset_key("g", tp("u"))])


class ExpiryTests(OffsetCase):
    def test_simple_group_by_its_commits(self) -> None:
        self.commit({tp(): at(1)})
        self.h.clock.advance(3 * DAY_S)
        self.commit({tp("u"): at(2)})
        self.h.clock.advance(4 * DAY_S + 700)
        self.assertEqual(self.offsets(), {tp("u"): 2})
        self.h.clock.advance(3 * DAY_S + 700)
        self.assertEqual((self.offsets(), self.h.service.all()), ({}, []))

    def test_members_keep_offsets_and_retention_runs_from_their_leaving(self) -> None:
        (only,) = self.h.stable(1)
        self.commit({tp(): at(1)}, 1, only.member_id)
        now_ms = self.h.now_ms()
        self.assertEqual(self.h.service.expire(now_ms + 8 * DAY_S * 1000), 0)
        self.h.advance(5)
        self.h.service.leave("g", [LeavingMember(only.member_id, None)])
        self.assertEqual(self.h.service.expire(now_ms + 7 * DAY_S * 1000 + 4_900), 0)
        self.restart()
        self.assertEqual(self.h.service.expire(now_ms + 7 * DAY_S * 1000 + 4_900), 0)
        self.assertEqual(self.h.service.expire(now_ms + 7 * DAY_S * 1000 + 5_100), 1)
        self.assertEqual(self.h.store.rows("groups"), {})

    def test_stable_group_loses_what_it_no_longer_subscribes_to(self) -> None:
        (only,) = self.h.stable(1, protocols=(("range", b"t"),))
        self.h.service.subscribed_topics = lambda _type, metadata: {metadata.decode()}
        self.commit({tp(): at(1), tp("u"): at(2)}, 1, only.member_id)
        self.assertEqual(self.h.service.expire(self.h.now_ms() + 7 * DAY_S * 1000), 1)
        self.assertEqual(self.offsets(), {tp(): 1})

    def test_explicit_expiry_time(self) -> None:
        self.commit({tp(): at(1, expire_time_ms=self.h.now_ms() + 1000)})
        self.assertEqual(self.h.service.expire(self.h.now_ms() + 999), 0)
        self.assertEqual(self.h.service.expire(self.h.now_ms() + 1000), 1)

    def test_commit_while_expiring_wins(self) -> None:
        self.commit({tp(): at(1)})
        self.h.store.hold = True
        self.h.service.expire(self.h.now_ms() + 8 * DAY_S * 1000)
        self.commit({tp(): at(2)})
        self.h.store.release()
        self.h.store.release()
        self.assertEqual(self.offsets(), {tp(): 2})
        self.assertEqual(len(self.h.store.rows("group_offsets")), 1)


class DescribeTests(OffsetCase):
    def test_states_and_members(self) -> None:
        self.assertEqual(self.h.service.describe("g").state, "Dead")
        self.h.join()
        description = self.h.service.describe("g")
        self.assertEqual((description.state, description.protocol_name), ("PreparingRebalance", ""))
        self.assertEqual(description.members[0].metadata, b"")
        (only,) = self.h.stable(1, group_id="h")
        description = self.h.service.describe("h")
        self.assertEqual((description.protocol_type, description.protocol_name), ("consumer", "range"))
        [member] = description.members
        self.assertEqual((member.member_id, member.client_id), (only.member_id, "c"))
        self.assertEqual((member.metadata, member.assignment), (b"meta", f"for {only.member_id}".encode()))

    def test_check_member_lets_classic_members_read(self) -> None:
        self.h.service.check_member("g", "", -1)
        self.h.service.stop()
        with self.assertRaises(BrokerError):
            self.h.service.check_member("g", "", -1)


@given(st.tuples(st.text(), st.text(), st.integers(0, 9)), st.tuples(st.text(), st.text(), st.integers(0, 9)))
def test_keys_are_unambiguous(one, other) -> None:
    keys = [offset_key(group, tp(topic, partition)) for group, topic, partition in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_store_of_the_harness_gives_back_what_json_keeps() -> None:
    store = HeldStore()
    store.write([Change("x", "k", {"a": 1})])
    assert store.rows("x") == {"k": {"a": 1}}
