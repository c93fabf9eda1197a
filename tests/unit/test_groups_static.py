"""Static membership (KIP-345) and skipped assignment (KIP-814)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import LeavingMember
from tests.unit.groups_harness import Harness, tp


class StaticMemberTests(SynchronousTestCase):
    def setUp(self) -> None:
        """A stable group: static leader ``i-1`` (instance i) and dynamic follower ``c-2``."""
        self.h = Harness()
        waiting = [self.h.join(instance_id="i"), self.h.join()]
        self.h.clock.advance(0.011)
        self.leader, self.follower = (outcome.value for outcome in waiting)
        self.h.sync(self.leader, {"i-1": b"one", "c-2": b"two"}, instance_id="i")
        self.h.sync(self.follower)
        self.assertEqual(self.state(), "Stable")

    def state(self) -> str:
        return self.h.service.describe("g").state

    def beat(self, member_id: str, instance_id: str | None = None) -> ErrorCode | None:
        try:
            self.h.service.heartbeat("g", 1, member_id, instance_id)
        except BrokerError as error:
            return error.code
        return None

    def test_leader_is_told_of_instances(self) -> None:
        self.assertEqual([m.instance_id for m in self.leader.members], ["i", None])

    def test_restart_without_a_rebalance(self) -> None:
        again = self.h.join(instance_id="i", supports_skipping_assignment=True).value
        self.assertEqual((again.member_id, again.leader, again.generation), ("i-3", "i-3", 1))
        self.assertTrue(again.skip_assignment)
        self.assertEqual([m.member_id for m in again.members], ["c-2", "i-3"])
        self.assertEqual(self.state(), "Stable")
        self.assertEqual(self.h.sync(again, instance_id="i").value.assignment, b"one")

    def test_restart_of_a_leader_that_cannot_skip(self) -> None:
        """It is named its former self as leader, so that it takes itself for a follower."""
        again = self.h.join(instance_id="i").value
        self.assertEqual((again.member_id, again.leader, again.members), ("i-3", "i-1", ()))
        self.assertFalse(again.skip_assignment)
        self.assertEqual(self.h.sync(again, instance_id="i").value.assignment, b"one")

    def test_restart_of_a_follower(self) -> None:
        joined = self.h.join(instance_id="j")
        self.h.join("i-1", instance_id="i")
        self.h.join("c-2")
        self.h.sync(joined.value, instance_id="j")
        self.h.sync(self.leader, {"j-3": b"three"}, generation=2, instance_id="i")
        again = self.h.join(instance_id="j", supports_skipping_assignment=True).value
        self.assertEqual((again.leader, again.members, again.skip_assignment), ("i-1", (), False))
        self.assertEqual(self.h.sync(again, instance_id="j").value.assignment, b"three")

    def test_former_self_is_fenced_everywhere(self) -> None:
        self.h.join(instance_id="i")
        self.assertIs(self.beat("i-1", "i"), ErrorCode.FENCED_INSTANCE)
        self.assertIs(self.beat("i-1"), ErrorCode.UNKNOWN_MEMBER)
        self.assertIsNone(self.beat("i-3", "i"))
        self.assertIs(self.h.join("i-1", instance_id="i").error.code, ErrorCode.FENCED_INSTANCE)
        self.assertIs(self.h.sync(self.leader, instance_id="i").error.code, ErrorCode.FENCED_INSTANCE)
        [outcome] = self.h.service.leave("g", [LeavingMember("i-1", "i")])
        self.assertIs(outcome.code, ErrorCode.FENCED_INSTANCE)
        failure = self.failureResultOf(self.h.service.commit("g", 1, "i-1", "i", {tp(): None}))
        self.assertIs(failure.value.code, ErrorCode.FENCED_INSTANCE)

    def test_waiting_join_of_the_former_self_is_fenced(self) -> None:
        waiting = self.h.join("i-1", instance_id="i")
        again = self.h.join(instance_id="i")
        self.assertIs(waiting.error.code, ErrorCode.FENCED_INSTANCE)
        self.h.join("c-2")
        self.assertEqual((again.value.member_id, again.value.generation), ("i-3", 2))

    def test_waiting_sync_of_the_former_self_is_fenced_and_rebalances(self) -> None:
        joined = self.h.join(instance_id="j")
        self.h.join("i-1", instance_id="i")
        self.h.join("c-2")
        sync = self.h.sync(joined.value, instance_id="j")
        self.assertTrue(sync.waits)
        again = self.h.join(instance_id="j")
        self.assertIs(sync.error.code, ErrorCode.FENCED_INSTANCE)
        self.assertTrue(again.waits)
        self.assertEqual(self.state(), "PreparingRebalance")

    def test_restart_that_changes_the_protocol_rebalances(self) -> None:
        h = Harness()
        both = (("range", b""), ("sticky", b""))
        waiting = [h.join(instance_id="i", protocols=both), h.join(protocols=both)]
        h.clock.advance(0.011)
        leader, follower = (outcome.value for outcome in waiting)
        h.sync(leader, instance_id="i")
        h.sync(follower)
        self.assertEqual(leader.protocol_name, "range")
        again = h.join(instance_id="i", protocols=(("sticky", b""),))
        self.assertTrue(again.waits)
        h.join("c-2", protocols=both)
        self.assertEqual((again.value.protocol_name, again.value.generation), ("sticky", 2))

    def test_absence_within_the_session_makes_no_rebalance_and_beyond_it_does(self) -> None:
        self.h.advance(6)
        self.assertIsNone(self.beat("c-2"))
        self.assertEqual(self.h.join(instance_id="i").value.generation, 1)
        self.h.advance(6)
        self.assertIsNone(self.beat("c-2"))
        self.h.advance(4.5)
        self.assertIs(self.beat("c-2"), ErrorCode.REBALANCE_IN_PROGRESS)

    def test_absent_static_member_is_kept_through_a_rebalance(self) -> None:
        rejoin = self.h.join("c-2", protocols=(("range", b"x"),), rebalance_timeout_ms=5_000)
        for _ in range(12):
            self.beat("i-1", "i")
            self.h.advance(5)
        self.h.advance(0.1)
        self.assertEqual({m.member_id for m in rejoin.value.members}, {"i-1", "c-2"})
        self.assertEqual(rejoin.value.leader, "c-2")

    def test_only_absent_static_members_end_by_their_sessions(self) -> None:
        h = Harness()
        h.stable(1, instance_id="i", rebalance_timeout_ms=0)
        h.join(session_timeout_ms=6_000, rebalance_timeout_ms=0)
        h.clock.advance(0.02)
        h.advance(40)
        self.assertEqual(h.service.describe("g").state, "Empty")

    def test_leaving_by_instance(self) -> None:
        outcomes = self.h.service.leave("g", [LeavingMember("", "i"), LeavingMember("", "unknown")])
        self.assertIsNone(outcomes[0])
        self.assertIs(outcomes[1].code, ErrorCode.UNKNOWN_MEMBER)
        self.assertEqual([m.member_id for m in self.h.service.describe("g").members], ["c-2"])

    def test_a_full_group_takes_a_static_member_back(self) -> None:
        h = Harness(group_max_size=1)
        h.stable(1, instance_id="i")
        self.assertEqual(h.join(instance_id="i").value.member_id, "i-2")
        self.assertIs(h.join(instance_id="j").error.code, ErrorCode.GROUP_FULL)

    def test_a_static_member_that_is_away_keeps_its_place_in_a_full_group(self) -> None:
        h = Harness(group_max_size=2)
        h.stable(1, instance_id="i")
        self.assertTrue(h.join().waits)
        self.assertIs(h.join().error.code, ErrorCode.GROUP_FULL)

    def test_static_members_are_not_asked_to_come_back_with_an_id(self) -> None:
        self.assertTrue(self.h.join(instance_id="j", require_known_member_id=True).waits)


class LastMemberTests(SynchronousTestCase):
    def test_group_is_empty_when_the_session_of_its_last_member_is_over(self) -> None:
        """Tools close a static member, wait its session out and delete the group, with 2 ms to spare."""
        h = Harness()
        waiting = h.join(instance_id="i", session_timeout_ms=6_000)
        h.clock.advance(0.012)
        h.sync(waiting.value, {"i-1": b"one"}, instance_id="i")
        h.service.heartbeat("g", 1, "i-1", "i")
        h.advance(5.998)
        self.assertEqual(h.service.describe("g").state, "Stable")
        h.advance(0.004)
        self.assertEqual(h.service.describe("g").state, "Empty")
