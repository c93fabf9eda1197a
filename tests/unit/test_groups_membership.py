"""Joining, rebalancing, syncing, living and leaving, through the service."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.groups import GroupService, GroupSettings, MemberIdRequired
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IGroupService
from megabroker.model import JoinRequest, LeavingMember, SyncRequest
from tests.unit.groups_harness import Harness


class GroupCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.h = Harness()

    def state(self, group_id: str = "g") -> str:
        return self.h.service.describe(group_id).state

    def beat(self, joined, **fields) -> ErrorCode | None:
        arguments = {
            "group_id": "g",
            "generation": joined.generation,
            "member_id": joined.member_id,
            "instance_id": None,
            **fields,
        }
        try:
            self.h.service.heartbeat(**arguments)
        except BrokerError as error:
            return error.code
        return None


class JoinTests(GroupCase):
    def test_provides_the_interface(self) -> None:
        verifyObject(IGroupService, self.h.service)

    def test_default_member_id_is_the_client_id_and_a_uuid(self) -> None:
        service = GroupService(self.h.clock, self.h.store, GroupSettings(), lambda _: True)
        self.h.service = service
        first = self.h.join(require_known_member_id=True).error
        second = self.h.join(require_known_member_id=True).error
        self.assertRegex(first.member_id, r"^c-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertNotEqual(first.member_id, second.member_id)

    def test_first_member_leads_generation_one(self) -> None:
        join = self.h.join()
        self.assertTrue(join.waits)
        self.assertEqual(self.state(), "PreparingRebalance")
        self.h.clock.advance(0.011)
        joined = join.value
        self.assertEqual((joined.generation, joined.leader, joined.member_id), (1, "c-1", "c-1"))
        self.assertEqual((joined.protocol_type, joined.protocol_name), ("consumer", "range"))
        self.assertEqual(joined.members, (("c-1", None, b"meta"),))
        self.assertEqual(self.state(), "CompletingRebalance")

    def test_only_the_leader_is_told_of_the_members(self) -> None:
        leader, follower = self.h.stable(2)
        self.assertEqual([m.member_id for m in leader.members], ["c-1", "c-2"])
        self.assertEqual((follower.members, follower.leader), ((), "c-1"))
        self.assertEqual(self.state(), "Stable")

    def test_known_member_id_is_asked_for_and_then_accepted(self) -> None:
        error = self.h.join(require_known_member_id=True).error
        self.assertIsInstance(error, MemberIdRequired)
        self.assertEqual((error.code, error.member_id), (ErrorCode.MEMBER_ID_REQUIRED, "c-1"))
        join = self.h.join("c-1", require_known_member_id=True)
        self.h.clock.advance(0.011)
        self.assertEqual(join.value.member_id, "c-1")

    def test_unused_member_id_expires_and_leaves_no_group(self) -> None:
        self.h.join(require_known_member_id=True)
        self.h.advance(10.5)
        self.assertEqual(self.h.service.all(), [])
        self.assertIs(self.h.join("c-1").error.code, ErrorCode.UNKNOWN_MEMBER)

    def test_a_rebalance_waits_for_ids_given_out(self) -> None:
        (leader,) = self.h.stable(1)
        fresh = self.h.join(require_known_member_id=True).error.member_id
        rejoin = self.h.join(leader.member_id)
        self.assertTrue(rejoin.waits)
        second = self.h.join(fresh)
        self.assertEqual((rejoin.value.generation, second.value.generation), (2, 2))

    def test_refusals(self) -> None:
        for code, fields in [
            (ErrorCode.INVALID_GROUP, {"group_id": ""}),
            (ErrorCode.INVALID_SESSION_TIMEOUT, {"session_timeout_ms": 5_999}),
            (ErrorCode.INVALID_SESSION_TIMEOUT, {"session_timeout_ms": 1_800_001}),
            (ErrorCode.UNKNOWN_MEMBER, {"member_id": "nobody"}),
            (ErrorCode.INCONSISTENT_PROTOCOL, {"protocol_type": ""}),
            (ErrorCode.INCONSISTENT_PROTOCOL, {"protocols": ()}),
        ]:
            self.assertIs(self.h.join(**fields).error.code, code)
        self.assertEqual(self.h.service.all(), [])

    def test_protocols_must_have_something_in_common(self) -> None:
        self.h.stable(1, protocols=(("range", b""), ("sticky", b"")))
        self.assertIs(self.h.join(protocols=(("x", b""),)).error.code, ErrorCode.INCONSISTENT_PROTOCOL)
        self.assertIs(self.h.join(protocol_type="connect").error.code, ErrorCode.INCONSISTENT_PROTOCOL)
        self.assertTrue(self.h.join(protocols=(("sticky", b""),)).waits)

    def test_protocol_is_voted_for_among_those_all_support(self) -> None:
        waiting = [
            self.h.join(protocols=(("only-mine", b"0"), ("range", b"1"), ("sticky", b"2"))),
            self.h.join(protocols=(("sticky", b"3"), ("range", b"4"))),
            self.h.join(protocols=(("sticky", b"5"), ("range", b"6"))),
        ]
        self.h.clock.advance(0.011)
        self.assertEqual([j.value.protocol_name for j in waiting], ["sticky"] * 3)
        self.assertEqual([m.metadata for m in waiting[0].value.members], [b"2", b"3", b"5"])

    def test_any_protocol_type(self) -> None:
        (joined,) = self.h.stable(1, protocol_type="sr")
        self.assertEqual(joined.protocol_type, "sr")
        self.assertEqual(self.h.service.all()[0], ("g", "sr", "Stable", "classic"))

    def test_group_full(self) -> None:
        self.h = Harness(group_max_size=2)
        self.h.stable(2)
        self.assertIs(self.h.join().error.code, ErrorCode.GROUP_FULL)
        self.assertIs(self.h.join(require_known_member_id=True).error.code, ErrorCode.GROUP_FULL)
        self.assertEqual(self.state(), "Stable")

    def test_ids_given_out_are_bounded(self) -> None:
        self.h = Harness(group_max_size=2)
        codes = [self.h.join(require_known_member_id=True).error.code for _ in range(3)]
        self.assertEqual(codes, [ErrorCode.MEMBER_ID_REQUIRED] * 2 + [ErrorCode.GROUP_FULL])

    def test_initial_delay_gathers_and_is_extended_by_newcomers(self) -> None:
        self.h = Harness(initial_rebalance_delay_ms=3000)
        first = self.h.join()
        self.h.advance(2)
        second = self.h.join()
        self.h.advance(3)
        self.assertTrue(first.waits)
        self.h.advance(2)
        self.assertEqual((first.value.generation, second.value.generation), (1, 1))

    def test_initial_delay_ends_with_the_rebalance_timeout(self) -> None:
        self.h = Harness(initial_rebalance_delay_ms=3000)
        first = self.h.join(rebalance_timeout_ms=7000)
        for _ in range(7):
            self.h.join(rebalance_timeout_ms=7000)
            self.h.advance(1.01, step=0.1)
        self.assertEqual(len(first.value.members), 8)

    def test_new_member_whose_join_waits_too_long_is_dropped(self) -> None:
        (leader,) = self.h.stable(1, rebalance_timeout_ms=2_000_000)
        newcomer = self.h.join()
        for _ in range(62):
            self.assertIs(self.beat(leader), ErrorCode.REBALANCE_IN_PROGRESS)
            self.h.advance(5)
        self.assertIs(newcomer.error.code, ErrorCode.UNKNOWN_MEMBER)
        self.assertEqual(len(self.h.service.describe("g").members), 1)


class RejoinTests(GroupCase):
    def test_unchanged_follower_gets_the_current_generation_back(self) -> None:
        _leader, follower = self.h.stable(2)
        again = self.h.join(follower.member_id).value
        self.assertEqual((again.generation, again.leader, again.members), (1, "c-1", ()))
        self.assertEqual(self.state(), "Stable")

    def test_changed_follower_makes_a_rebalance(self) -> None:
        leader, follower = self.h.stable(2)
        again = self.h.join(follower.member_id, protocols=(("range", b"new"),))
        self.assertTrue(again.waits)
        self.assertIs(self.beat(leader), ErrorCode.REBALANCE_IN_PROGRESS)
        told = self.h.join(leader.member_id)
        self.assertEqual({m.metadata for m in told.value.members}, {b"meta", b"new"})
        self.assertEqual(again.value.generation, 2)

    def test_leader_makes_a_rebalance(self) -> None:
        leader, follower = self.h.stable(2)
        self.assertTrue(self.h.join(leader.member_id).waits)
        self.assertIs(self.beat(follower), ErrorCode.REBALANCE_IN_PROGRESS)

    def test_lost_join_answer_is_given_again(self) -> None:
        joins = [self.h.join(), self.h.join()]
        self.h.clock.advance(0.011)
        for join in joins:
            self.assertEqual(self.h.join(join.value.member_id).value, join.value)
        self.assertEqual(self.state(), "CompletingRebalance")

    def test_changed_while_completing_answers_syncs_and_rebalances(self) -> None:
        joins = [self.h.join(), self.h.join()]
        self.h.clock.advance(0.011)
        leader, follower = (join.value for join in joins)
        sync = self.h.sync(follower)
        self.assertTrue(sync.waits)
        self.h.join(leader.member_id, protocols=(("range", b"new"),))
        self.assertIs(sync.error.code, ErrorCode.REBALANCE_IN_PROGRESS)

    def test_second_join_of_one_member_takes_the_place_of_the_first(self) -> None:
        leader, _follower = self.h.stable(2)
        first = self.h.join(leader.member_id)
        second = self.h.join(leader.member_id)
        self.assertIs(first.error.code, ErrorCode.REBALANCE_IN_PROGRESS)
        self.assertTrue(second.waits)

    def test_who_does_not_rejoin_in_time_is_out(self) -> None:
        leader, follower = self.h.stable(2, rebalance_timeout_ms=8_000)
        again = self.h.join(leader.member_id, rebalance_timeout_ms=5_000)
        for _ in range(7):
            self.h.advance(1)
            self.assertIs(self.beat(follower), ErrorCode.REBALANCE_IN_PROGRESS)
        self.assertTrue(again.waits)
        self.h.advance(1.1)
        self.assertEqual([m.member_id for m in again.value.members], [leader.member_id])
        self.assertIs(self.beat(follower), ErrorCode.UNKNOWN_MEMBER)

    def test_leader_that_does_not_rejoin_is_replaced(self) -> None:
        _leader, follower = self.h.stable(2)
        again = self.h.join(follower.member_id, protocols=(("range", b"x"),))
        self.h.advance(11)
        self.assertEqual((again.value.leader, again.value.generation), (follower.member_id, 2))

    def test_rejoin_of_an_empty_group_by_a_former_member(self) -> None:
        (only,) = self.h.stable(1)
        self.h.advance(11)
        self.assertEqual(self.state(), "Empty")
        self.assertIs(self.h.join(only.member_id).error.code, ErrorCode.UNKNOWN_MEMBER)


class SyncTests(GroupCase):
    def setUp(self) -> None:
        super().setUp()
        joins = [self.h.join(), self.h.join()]
        self.h.clock.advance(0.011)
        self.leader, self.follower = (join.value for join in joins)

    def test_followers_wait_for_the_leader(self) -> None:
        waiting = self.h.sync(self.follower)
        self.assertTrue(waiting.waits)
        mine = self.h.sync(self.leader, {"c-1": b"one", "c-2": b"two", "stranger": b"three"})
        self.assertEqual((mine.value.assignment, waiting.value.assignment), (b"one", b"two"))
        self.assertEqual((mine.value.protocol_type, mine.value.protocol_name), ("consumer", "range"))
        self.assertEqual(self.h.sync(self.follower).value.assignment, b"two")

    def test_who_is_left_out_gets_nothing(self) -> None:
        self.h.sync(self.leader, {"c-1": b"one"})
        self.assertEqual(self.h.sync(self.follower).value.assignment, b"")

    def test_refusals(self) -> None:
        for code, fields in [
            (ErrorCode.ILLEGAL_GENERATION, {"generation": 0}),
            (ErrorCode.UNKNOWN_MEMBER, {"member_id": "x"}),
            (ErrorCode.UNKNOWN_MEMBER, {"group_id": "other"}),
            (ErrorCode.UNKNOWN_MEMBER, {"instance_id": "unknown"}),
            (ErrorCode.INVALID_GROUP, {"group_id": ""}),
            (ErrorCode.INCONSISTENT_PROTOCOL, {"protocol_type": "connect"}),
            (ErrorCode.INCONSISTENT_PROTOCOL, {"protocol_name": "sticky"}),
        ]:
            self.assertIs(self.h.sync(self.leader, **fields).error.code, code)
        self.assertTrue(self.h.sync(self.follower, protocol_type=None, protocol_name=None).waits)

    def test_during_the_next_rebalance(self) -> None:
        self.h.join()
        self.assertIs(self.h.sync(self.leader).error.code, ErrorCode.REBALANCE_IN_PROGRESS)

    def test_second_sync_takes_the_place_of_the_first(self) -> None:
        first = self.h.sync(self.follower)
        second = self.h.sync(self.follower)
        self.assertIs(first.error.code, ErrorCode.REBALANCE_IN_PROGRESS)
        self.assertTrue(second.waits)

    def test_leader_that_never_syncs_is_out_after_the_rebalance_timeout(self) -> None:
        waiting = self.h.sync(self.follower)
        for _ in range(12):
            self.assertIsNone(self.beat(self.leader))
            self.h.advance(5)
        self.h.advance(0.1)
        self.assertIs(waiting.error.code, ErrorCode.REBALANCE_IN_PROGRESS)
        self.assertIs(self.beat(self.leader), ErrorCode.UNKNOWN_MEMBER)
        again = self.h.join(self.follower.member_id).value
        self.assertEqual((again.leader, again.generation), (self.follower.member_id, 2))

    def test_silent_leader_is_out_after_its_session_already(self) -> None:
        waiting = self.h.sync(self.follower)
        self.h.advance(9.5)
        self.assertTrue(waiting.waits)
        self.h.advance(1)
        self.assertIs(waiting.error.code, ErrorCode.REBALANCE_IN_PROGRESS)
        self.assertIs(self.beat(self.leader), ErrorCode.UNKNOWN_MEMBER)

    def test_member_that_never_syncs_in_a_stable_group_is_out(self) -> None:
        self.h.sync(self.leader)
        for _ in range(13):
            self.beat(self.leader)
            self.beat(self.follower)
            self.h.advance(5)
        self.assertIs(self.beat(self.follower), ErrorCode.UNKNOWN_MEMBER)
        self.assertIs(self.beat(self.leader), ErrorCode.REBALANCE_IN_PROGRESS)

    def test_callbacks_may_call_back_in(self) -> None:
        """A client that syncs within the callback of its join, all in one turn."""
        h = Harness()
        assignments = []
        for _ in range(50):
            join = h.service.join(_request())

            def joined(joined):
                everybody = {member.member_id: b"x" for member in joined.members}
                return h.service.sync(_sync_request(joined, everybody))

            join.addCallback(joined).addCallback(lambda synced: assignments.append(synced.assignment))
        h.clock.advance(0.011)
        self.assertEqual(assignments, [b"x"] * 50)
        self.assertEqual(h.service.describe("g").state, "Stable")


class LivingTests(GroupCase):
    def test_heartbeats_keep_alive_and_silence_does_not(self) -> None:
        leader, follower = self.h.stable(2)
        for _ in range(5):
            self.h.advance(9)
            self.assertIsNone(self.beat(leader))
            self.assertIsNone(self.beat(follower))
        self.h.advance(9)
        self.assertIsNone(self.beat(leader))
        self.h.advance(2)
        self.assertIs(self.beat(follower), ErrorCode.UNKNOWN_MEMBER)
        self.assertIs(self.beat(leader), ErrorCode.REBALANCE_IN_PROGRESS)

    def test_heartbeat_refusals(self) -> None:
        (only,) = self.h.stable(1)
        self.assertIs(self.beat(only, generation=2), ErrorCode.ILLEGAL_GENERATION)
        self.assertIs(self.beat(only, member_id="x"), ErrorCode.UNKNOWN_MEMBER)
        self.assertIs(self.beat(only, group_id="x"), ErrorCode.UNKNOWN_MEMBER)
        self.assertIs(self.beat(only, group_id=""), ErrorCode.INVALID_GROUP)
        self.assertIs(self.beat(only, instance_id="x"), ErrorCode.UNKNOWN_MEMBER)

    def test_waiting_for_a_rebalance_is_being_alive(self) -> None:
        leader, follower = self.h.stable(2)
        waiting = self.h.join(leader.member_id)
        for _ in range(11):
            self.h.advance(5)
            self.beat(follower)
        self.assertTrue(waiting.waits)
        self.h.join(follower.member_id)
        self.assertEqual(len(waiting.value.members), 2)

    def test_last_one_out_leaves_an_empty_group_of_the_next_generation(self) -> None:
        (only,) = self.h.stable(1)
        self.assertEqual(self.h.service.leave("g", [LeavingMember(only.member_id, None)]), [None])
        self.assertEqual(self.state(), "Empty")
        self.assertEqual(self.h.stable(1)[0].generation, 3)

    def test_several_leave_at_once(self) -> None:
        joined = self.h.stable(4)
        pending = self.h.join(require_known_member_id=True).error.member_id
        outcomes = self.h.service.leave(
            "g",
            [
                LeavingMember(joined[0].member_id, None),
                LeavingMember("stranger", None),
                LeavingMember(joined[1].member_id, None, "tired"),
                LeavingMember(pending, None),
                LeavingMember("", None),
            ],
        )
        codes = [outcome and outcome.code for outcome in outcomes]
        self.assertEqual(codes, [None, ErrorCode.UNKNOWN_MEMBER, None, None, ErrorCode.UNKNOWN_MEMBER])
        again = [self.h.join(j.member_id) for j in joined[2:]]
        self.assertEqual([len(a.value.members) for a in again], [2, 0])

    def test_leaving_a_stranger_or_an_unused_id_disturbs_nobody(self) -> None:
        self.h.stable(1)
        pending = self.h.join(require_known_member_id=True).error.member_id
        self.h.service.leave("g", [LeavingMember(pending, None), LeavingMember("x", None)])
        self.assertEqual(self.state(), "Stable")

    def test_leaving_while_waiting_answers_the_join(self) -> None:
        leader, follower = self.h.stable(2)
        waiting = self.h.join(leader.member_id)
        self.h.service.leave("g", [LeavingMember(leader.member_id, None)])
        self.assertIs(waiting.error.code, ErrorCode.UNKNOWN_MEMBER)
        self.assertEqual(self.h.join(follower.member_id).value.leader, follower.member_id)

    def test_leaving_completes_a_rebalance_that_waited_only_for_it(self) -> None:
        leader, follower = self.h.stable(2)
        waiting = self.h.join(leader.member_id)
        self.h.service.leave("g", [LeavingMember(follower.member_id, None)])
        self.assertEqual(waiting.value.generation, 2)

    def test_group_of_a_leave(self) -> None:
        for group_id, code in [("", ErrorCode.INVALID_GROUP), ("x", ErrorCode.UNKNOWN_MEMBER)]:
            with self.assertRaises(BrokerError) as caught:
                self.h.service.leave(group_id, [])
            self.assertIs(caught.exception.code, code)

    def test_stop_answers_everybody(self) -> None:
        leader, _ = self.h.stable(2)
        join = self.h.join(leader.member_id)
        other = self.h.join(group_id="other")
        self.h.service.stop()
        for outcome in (join, other, self.h.join(), self.h.sync(leader)):
            self.assertIs(outcome.error.code, ErrorCode.NOT_COORDINATOR)
            self.assertTrue(outcome.error.retriable)
        self.assertIs(self.beat(leader), ErrorCode.NOT_COORDINATOR)
        self.assertEqual(self.h.clock.getDelayedCalls(), [])

    def test_stop_answers_waiting_syncs(self) -> None:
        joins = [self.h.join(), self.h.join()]
        self.h.clock.advance(0.011)
        sync = self.h.sync(joins[1].value)
        self.h.service.stop()
        self.assertIs(sync.error.code, ErrorCode.NOT_COORDINATOR)


class ManyMembersTests(GroupCase):
    def test_a_thousand_members_one_by_one(self) -> None:
        """Every newcomer makes everybody rejoin in the worst case; here the rebalance gathers them."""
        began = time.process_time()
        (leader,) = self.h.stable(1)
        newcomers = [self.h.join(session_timeout_ms=30_000) for _ in range(999)]
        rejoin = self.h.join(leader.member_id)
        self.assertEqual(len(rejoin.value.members), 1000)
        syncs = [self.h.sync(newcomer.value) for newcomer in newcomers]
        self.h.sync(rejoin.value, {m.member_id: b"x" for m in rejoin.value.members})
        self.assertEqual({sync.value.assignment for sync in syncs}, {b"x"})
        self.assertLess(time.process_time() - began, 5)


def _request(**fields):
    return JoinRequest("g", "", None, "c", "", 10_000, 60_000, "consumer", (("range", b""),), **fields)


def _sync_request(joined, assignments):
    return SyncRequest("g", joined.generation, joined.member_id, None, None, None, assignments)
