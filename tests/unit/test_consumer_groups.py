"""Groups of the consumer protocol: joining, reconciling, leaving, fencing, restarting, offsets."""

from __future__ import annotations

from typing import Any
from unittest import mock
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.groups import GroupService
from megabroker.core.groups.classic_groups import GROUPS_TABLE
from megabroker.core.groups.offsets import OFFSETS_TABLE
from megabroker.errors import BrokerError, ErrorCode, StorageError
from megabroker.interfaces import IGroupService
from megabroker.model import (
    CommittedOffset,
    ConsumerHeartbeatAnswer,
    JoinRequest,
    LeavingMember,
    Principal,
)
from tests.unit.consumer_groups_harness import ConsumerHarness, Member, settle
from tests.unit.groups_harness import Outcome, tp


def places(topic: UUID, *indexes: int) -> dict[UUID, frozenset[int]]:
    return {topic: frozenset(indexes)}


class ConsumerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.h = ConsumerHarness(offsets_check_interval_ms=0)
        self.t = self.h.topic("t", 4)

    def tearDown(self) -> None:
        self.h.service.stop()
        self.assertEqual(self.h.clock.getDelayedCalls(), [])

    def two(self) -> tuple[Member, Member]:
        first, second = Member(self.h, "t"), Member(self.h, "t")
        settle([first, second])
        return first, second

    def assert_refused(self, outcome: Outcome, code: ErrorCode) -> None:
        self.assertIs(outcome.error.code, code)

    def group(self, group_id: str = "g"):
        return self.h.service.describe_consumers(group_id)


class HiddenTopicsTests(ConsumerCase):
    """Regular expressions match what a member may see."""

    def setUp(self) -> None:
        super().setUp()
        self.logs = self.h.topic("logs", 2)
        self.lots = self.h.topic("lots", 2)
        self.seen = {("alice", "logs")}
        self.rules = 0
        self.restrict()

    def restrict(self) -> None:
        self.h.service.restrict(
            lambda who, host, name: host == "10.0.0.7" and (who.name, name) in self.seen,
            lambda who, host, names: (),
            lambda: self.rules,
        )

    def rule(self, name: str, topic: str, *, may: bool = True) -> None:
        (self.seen.add if may else self.seen.discard)((name, topic))
        self.rules += 1

    def join(self, user: str, **fields: Any) -> Outcome:
        says = {"topic_names": None, "topic_pattern": "lo.*", "client_host": "/10.0.0.7", **fields}
        return self.h.join(principal=Principal("User", user), **says)

    def told(self, member: ConsumerHeartbeatAnswer) -> dict[UUID, frozenset[int]] | None:
        answer = self.h.beat(
            member.member_id,
            member.member_epoch,
            principal=Principal("User", "alice"),
            client_host="/10.0.0.7",
        ).value
        assert answer.member_epoch == self.group().group_epoch
        return answer.assignment

    def test_a_member_gets_what_it_may_see(self) -> None:
        self.assertEqual(self.join("alice").value.assignment, places(self.logs, 0, 1))
        self.assertEqual(self.join("alice", group_id="h", client_host="/10.0.0.8").value.assignment, {})
        self.assertEqual(self.join("bob", group_id="i").value.assignment, {})

    def test_names_are_asked_about_elsewhere(self) -> None:
        answer = self.join("bob", topic_names=frozenset({"t"}), topic_pattern=None).value
        self.assertEqual(answer.assignment, places(self.t, 0, 1, 2, 3))

    def test_rules_that_change_change_the_subscription(self) -> None:
        member = self.join("alice").value
        self.rule("alice", "lots")
        self.h.advance(5)
        self.assertEqual(self.told(member), {**places(self.logs, 0, 1), **places(self.lots, 0, 1)})
        self.rule("alice", "logs", may=False)
        self.rule("alice", "lots", may=False)
        self.h.advance(5)
        self.h.beat(member.member_id, 2, principal=Principal("User", "alice"), client_host="/10.0.0.7")
        (known,) = self.group().members
        self.assertEqual((known.target, known.assignment), ({}, {}))

    def test_new_topics_are_asked_about(self) -> None:
        member = self.join("alice").value
        self.h.topic("lock", 1)
        love = self.h.topic("love", 1)
        self.rule("alice", "love")
        self.h.advance(5)
        self.assertEqual(self.told(member), {**places(self.logs, 0, 1), **places(love, 0)})

    def test_who_it_is_outlives_a_restart(self) -> None:
        member = self.join("alice").value
        start = self.h.start
        self.h.start = lambda: None
        self.h.restart()
        self.h.start = start
        load = GroupService.load

        def restricted(service: GroupService) -> None:
            self.h.service = service
            self.restrict()
            load(service)

        with mock.patch.object(GroupService, "load", restricted):
            self.h.start()
        self.assertEqual(self.group().members[0].target, places(self.logs, 0, 1))
        self.assertEqual(self.group().group_epoch, member.member_epoch, "nothing has changed")
        self.rule("alice", "lots")
        self.h.advance(5)
        self.assertEqual(self.told(member), {**places(self.logs, 0, 1), **places(self.lots, 0, 1)})

    def test_another_user_in_a_static_members_place_gets_what_it_may_see(self) -> None:
        self.join("alice", instance_id="i")
        member = self.group().members[0]
        self.h.beat(member.member_id, -2, instance_id="i")
        self.assertEqual(self.join("bob", member_id="other", instance_id="i").value.assignment, {})


class JoinTests(ConsumerCase):
    def test_provides_the_interface(self) -> None:
        verifyObject(IGroupService, self.h.service)

    def test_the_first_member_gets_everything_at_once(self) -> None:
        answer = self.h.join().value
        self.assertEqual(answer.member_epoch, 1)
        self.assertEqual(answer.assignment, places(self.t, 0, 1, 2, 3))
        self.assertEqual(answer.heartbeat_interval_ms, 5000)
        self.assertTrue(answer.member_id.startswith("c-"))
        self.assertEqual(self.h.state(), "Stable")

    def test_a_member_brings_its_own_id(self) -> None:
        self.assertEqual(self.h.join("mine").value.member_id, "mine")

    def test_nothing_new_is_not_told_again(self) -> None:
        member = self.h.join().value
        again = self.h.beat(member.member_id, 1).value
        self.assertEqual((again.member_epoch, again.assignment), (1, None))
        full = self.h.beat(
            member.member_id, 1, rebalance_timeout_ms=1, topic_names=frozenset({"t"}), owned={}
        ).value
        self.assertEqual(full.assignment, places(self.t, 0, 1, 2, 3))

    def test_partitions_move_by_revocation_first(self) -> None:
        first, second = Member(self.h, "t"), Member(self.h, "t")
        first.beat()
        second.beat()
        self.assertEqual((second.epoch, second.has), (2, []))
        self.assertEqual(self.h.state(), "Reconciling")
        first.beat()
        self.assertEqual((first.epoch, len(first.has)), (1, 2))
        second.beat()
        self.assertEqual(second.has, [], "not confirmed yet")
        first.beat()
        self.assertEqual(first.epoch, 2)
        second.beat()
        self.assertEqual(sorted(first.has + second.has), [(self.t, index) for index in range(4)])
        self.assertEqual(self.h.state(), "Stable")

    def test_an_unknown_topic_is_waited_for(self) -> None:
        member = Member(self.h, "later")
        settle([member])
        self.assertEqual((member.epoch, member.has), (1, []))
        later = self.h.topic("later", 2)
        self.h.advance(1.1)
        self.assertEqual(self.h.state(), "Assigning")
        member.beat()
        self.assertEqual((member.epoch, member.has), (2, [(later, 0), (later, 1)]))

    def test_a_regular_expression_follows_the_topics(self) -> None:
        member = Member(self.h, pattern="lo[gs].*")
        member.beat()
        logs = self.h.topic("logs", 1)
        self.h.topic("catalogs", 1)
        self.h.advance(1.1)
        settle([member])
        self.assertEqual(member.has, [(logs, 0)])
        self.h.delete("logs")
        settle([member])
        self.assertEqual(member.has, [])

    def test_an_invalid_regular_expression_changes_nothing(self) -> None:
        self.assert_refused(self.h.join("m", topic_names=None, topic_pattern="("), ErrorCode.INVALID_PATTERN)
        self.assert_refused(self.h.beat("m", 1), ErrorCode.GROUP_NOT_FOUND)
        member = Member(self.h, "t")
        member.beat()
        before = self.group()
        self.assert_refused(self.h.beat(member.member_id, 1, topic_pattern="a**"), ErrorCode.INVALID_PATTERN)
        self.assertEqual(self.group(), before)

    def test_a_topic_that_grows_or_is_made_anew(self) -> None:
        first, second = self.two()
        self.h.grow("t", 6)
        self.h.advance(1.1)
        settle([first, second])
        self.assertEqual([len(first.has), len(second.has)], [3, 3])
        anew = self.h.topic("t", 2)
        self.h.advance(1.1)
        settle([first, second])
        self.assertEqual(sorted(first.has + second.has), [(anew, 0), (anew, 1)])

    def test_the_assignor_most_members_ask_for(self) -> None:
        self.h.topic("u", 4)
        members = [Member(self.h, "t", "u", member_id=name, assignor="range") for name in "ab"]
        settle(members)
        self.assertEqual(self.group().assignor, "range")
        self.assertEqual([index for _, index in members[0].has], [0, 1, 0, 1])
        members += [Member(self.h, "t", member_id=name, assignor="uniform") for name in "cde"]
        settle(members)
        self.assertEqual(self.group().assignor, "uniform")

    def test_many_that_join_together_are_assigned_together(self) -> None:
        many = self.h.topic("many", 300)
        members = [Member(self.h, "many") for _ in range(150)]
        told = [self.h.join("", "many").value for _ in members]
        group = self.group()
        self.assertEqual((group.group_epoch, group.assignment_epoch), (150, 101))
        self.assertEqual((told[-1].member_epoch, told[-1].assignment), (101, {}))
        self.assertEqual((told[0].heartbeat_interval_ms, told[-1].heartbeat_interval_ms), (5000, 1000))
        for member, answer in zip(members, told, strict=True):
            member.hear(answer)
        self.h.advance(0.2)
        settle(members, 4)
        self.assertEqual({len(member.has) for member in members}, {2})
        self.assertEqual(sorted(index for member in members for _, index in member.has), [*range(300)])
        self.assertEqual({topic for member in members for topic, _ in member.has}, {many})
        self.assertEqual(self.group().state, "Stable")

    def test_what_is_refused(self) -> None:
        h = self.h
        for outcome, code in (
            (h.join(group_id=" "), ErrorCode.INVALID_REQUEST),
            (h.beat("m", -3), ErrorCode.INVALID_REQUEST),
            (h.beat("", 1), ErrorCode.INVALID_REQUEST),
            (h.beat("m", -2), ErrorCode.INVALID_REQUEST),
            (h.join("m", owned=None), ErrorCode.INVALID_REQUEST),
            (h.join("m", owned=places(self.t, 1)), ErrorCode.INVALID_REQUEST),
            (h.join("m", topic_names=None), ErrorCode.INVALID_REQUEST),
            (h.join("m", rebalance_timeout_ms=-1), ErrorCode.INVALID_REQUEST),
            (h.join("m", rebalance_timeout_ms=-2), ErrorCode.INVALID_REQUEST),
            (h.join("m", instance_id=""), ErrorCode.INVALID_REQUEST),
            (h.join("m", rack_id=""), ErrorCode.INVALID_REQUEST),
            (h.join("m", assignor="sticky"), ErrorCode.UNSUPPORTED_ASSIGNOR),
            (h.beat("m", 1), ErrorCode.GROUP_NOT_FOUND),
            (h.beat("m", -1), ErrorCode.GROUP_NOT_FOUND),
        ):
            self.assert_refused(outcome, code)
        self.assertEqual(h.service.all(), [])
        h.join("m")
        self.assert_refused(h.beat("n", 1), ErrorCode.UNKNOWN_MEMBER)
        self.assert_refused(h.beat("n", -1), ErrorCode.UNKNOWN_MEMBER)

    def test_a_full_group(self) -> None:
        h = ConsumerHarness(group_max_size=1, offsets_check_interval_ms=0)
        h.topic("t", 1)
        h.join("m")
        self.assert_refused(h.join("n"), ErrorCode.GROUP_FULL)
        self.assertEqual(h.join("m").value.member_epoch, 1)
        h.service.stop()

    def test_a_stopped_service(self) -> None:
        self.h.service.stop()
        self.assert_refused(self.h.join(), ErrorCode.NOT_COORDINATOR)


class EpochTests(ConsumerCase):
    def test_other_epochs_are_fenced(self) -> None:
        first, _ = self.two()
        for epoch in (first.epoch + 1, 1):
            self.assert_refused(
                self.h.beat(first.member_id, epoch, owned=places(self.t, 0, 1, 2, 3)),
                ErrorCode.FENCED_MEMBER_EPOCH,
            )
        self.assert_refused(self.h.beat(first.member_id, 1), ErrorCode.FENCED_MEMBER_EPOCH)

    def test_a_lost_answer_is_given_again(self) -> None:
        first, second = self.two()
        second.leave()
        first.beat(lose_answer=True)
        first.beat()
        self.assertEqual((first.error, first.epoch, len(first.has)), (None, 3, 4))

    def test_a_lost_join_is_answered_again(self) -> None:
        member = Member(self.h, "t", member_id="m")
        member.beat(lose_answer=True)
        member.beat()
        self.assertEqual((member.epoch, len(member.has)), (1, 4))

    def test_a_fenced_member_joins_again_under_its_id(self) -> None:
        first, second = self.two()
        first.epoch = 99
        first.beat()
        self.assertIs(first.error.code, ErrorCode.FENCED_MEMBER_EPOCH)
        settle([first, second])
        self.assertEqual(sorted(first.has + second.has), [(self.t, index) for index in range(4)])

    def test_a_silent_member_is_removed(self) -> None:
        first, second = self.two()
        self.h.advance(44)
        first.beat()
        self.h.advance(2)
        settle([first])
        self.assertEqual(len(first.has), 4)
        second.beat()
        self.assertIs(second.error.code, ErrorCode.UNKNOWN_MEMBER)
        self.h.advance(46)
        self.assertEqual(self.h.state(), "Empty")

    def test_who_does_not_revoke_in_time_is_removed(self) -> None:
        first, second = Member(self.h, "t"), Member(self.h, "t")
        first.beat()
        second.beat()
        first.beat()
        for _ in range(6):
            # It lives, but never says that it has given anything up.
            self.assertEqual(self.h.beat(first.member_id, 1).value.member_epoch, 1)
            self.h.advance(4.9)
            second.beat()
        self.assertEqual(second.has, [])
        self.h.advance(1)
        self.assert_refused(self.h.beat(first.member_id, 1), ErrorCode.UNKNOWN_MEMBER)
        settle([second])
        self.assertEqual(len(second.has), 4)

    def test_confirming_stops_the_rebalance_timeout(self) -> None:
        first, second = self.two()
        for _ in range(5):
            self.h.advance(20)
            settle([first, second], 1)
        self.assertEqual(len(self.group().members), 2)


class StaticTests(ConsumerCase):
    def setUp(self) -> None:
        super().setUp()
        self.member = Member(self.h, "t", instance_id="i", member_id="one")
        self.other = Member(self.h, "t")
        settle([self.member, self.other])

    def test_back_in_time_it_goes_on_and_nobody_notices(self) -> None:
        had, epoch = self.member.has, self.group().group_epoch
        self.assertEqual(self.member.leave(-2).value.member_epoch, -2)
        settle([self.other])
        self.h.advance(40)
        self.other.beat()
        back = Member(self.h, "t", instance_id="i", member_id="two")
        back.beat()
        self.assertEqual((back.has, back.epoch), (had, epoch))
        self.assertEqual((self.group().group_epoch, self.h.state()), (epoch, "Stable"))
        self.assert_refused(self.h.beat("one", epoch), ErrorCode.UNKNOWN_MEMBER)
        self.assert_refused(self.h.beat("one", epoch, instance_id="i"), ErrorCode.FENCED_INSTANCE)
        self.assert_refused(self.h.beat("one", -1, instance_id="i"), ErrorCode.FENCED_INSTANCE)

    def test_back_too_late_others_have_its_partitions(self) -> None:
        self.member.leave(-2)
        self.h.advance(30)
        self.other.beat()
        self.h.advance(16)
        settle([self.other])
        self.assertEqual(len(self.other.has), 4)

    def test_a_held_instance_is_not_given_away(self) -> None:
        self.assert_refused(self.h.join("two", instance_id="i"), ErrorCode.UNRELEASED_INSTANCE)
        self.assert_refused(self.h.beat("x", 1, instance_id="j"), ErrorCode.UNKNOWN_MEMBER)
        self.assert_refused(self.h.join("one", instance_id="j"), ErrorCode.INVALID_REQUEST)

    def test_leaving_for_good_frees_the_instance(self) -> None:
        self.member.leave()
        self.assertEqual(self.h.join("two", instance_id="i").value.member_id, "two")


class RestartTests(ConsumerCase):
    def test_members_go_on_without_being_fenced(self) -> None:
        first, second = self.two()
        before = self.group()
        self.h.restart()
        self.assertEqual(self.group(), before)
        for member in (first, second):
            epoch, had = member.epoch, member.has
            member.beat()
            self.assertEqual((member.error, member.epoch, member.has), (None, epoch, had))
        self.h.advance(46)
        self.assertEqual(self.h.state(), "Empty")

    def test_a_revocation_goes_on(self) -> None:
        first, second = Member(self.h, "t"), Member(self.h, "t")
        first.beat()
        second.beat()
        first.beat()
        self.h.restart()
        second.beat()
        self.assertEqual(second.has, [])
        settle([first, second])
        self.assertEqual([len(first.has), len(second.has)], [2, 2])

    def test_topics_changed_meanwhile(self) -> None:
        first, second = self.two()
        self.h.grow("t", 6)
        self.h.restart()
        settle([first, second])
        self.assertEqual([len(first.has), len(second.has)], [3, 3])

    def test_unreadable_rows_are_left_alone(self) -> None:
        self.two()
        self.h.store.tables["consumer_groups"]["x"] = "{}"
        self.h.store.tables["consumer_groups"]['["g","z"]'] = '{"epoch": []}'
        self.h.restart()
        self.assertEqual(len(self.group().members), 2)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_an_answer_waits_for_the_store(self) -> None:
        self.h.store.hold = True
        joined = self.h.join("m")
        self.assertTrue(joined.waits)
        again = self.h.join("m")
        self.h.store.release()
        self.assertEqual(joined.value.member_epoch, 1)
        self.assertTrue(again.waits)
        self.h.store.release()
        self.assertEqual(again.value.member_epoch, 1)

    def test_what_the_store_refused_is_stored_with_the_next(self) -> None:
        self.h.store.hold = True
        joined = self.h.join("m")
        self.h.store.release(error=StorageError(ErrorCode.DISK_FULL, "no room"))
        self.assert_refused(joined, ErrorCode.DISK_FULL)
        self.h.store.hold = False
        self.assertEqual(self.h.join("m").value.member_epoch, 1)
        self.h.restart()
        self.assertEqual(self.h.beat("m", 1).value.member_epoch, 1)


class OffsetTests(ConsumerCase):
    def commit(self, epoch: int, member_id: str) -> Outcome:
        return Outcome(self.h.service.commit("g", epoch, member_id, None, {tp(): CommittedOffset(7)}))

    def test_members_commit_in_their_epoch(self) -> None:
        first, second = self.two()
        self.assertEqual(self.commit(first.epoch, first.member_id).value, {tp(): None})
        self.assert_refused(self.commit(1, first.member_id), ErrorCode.STALE_MEMBER_EPOCH)
        self.assert_refused(self.commit(2, "nobody"), ErrorCode.UNKNOWN_MEMBER)
        self.assert_refused(self.commit(-1, ""), ErrorCode.UNKNOWN_MEMBER)
        first.leave()
        second.leave()
        self.assertEqual(self.commit(-1, "").value, {tp(): None})

    def test_members_read_in_their_epoch(self) -> None:
        first, _ = self.two()
        check = self.h.service.check_member
        check("g", first.member_id, first.epoch)
        check("no such group", "m", 1)
        for member_id, epoch, code in (
            (first.member_id, 1, ErrorCode.STALE_MEMBER_EPOCH),
            ("nobody", 2, ErrorCode.UNKNOWN_MEMBER),
        ):
            with self.assertRaises(BrokerError) as caught:
                check("g", member_id, epoch)
            self.assertIs(caught.exception.code, code)

    def test_offsets_of_subscribed_topics_stay(self) -> None:
        self.h.topic("u", 1)
        member = Member(self.h, "t")
        member.beat()
        both = {tp("t"): CommittedOffset(1), tp("u"): CommittedOffset(2)}
        self.h.service.commit("g", 1, member.member_id, None, both)
        deleted = Outcome(self.h.service.delete_offsets("g", [tp("t"), tp("u")])).value
        self.assertEqual(deleted, {tp("t"): ErrorCode.SUBSCRIBED_TO_TOPIC, tp("u"): None})
        self.h.service.commit("g", 1, member.member_id, None, both)
        later_ms = int(self.h.clock.seconds() * 1000) + 8 * 24 * 3600 * 1000
        self.assertEqual(self.h.service.expire(later_ms), 1)
        self.assertEqual(list(self.h.service.committed("g", None)), [tp("t")])

    def test_an_empty_group_without_offsets_is_forgotten(self) -> None:
        member = Member(self.h, "t")
        member.beat()
        self.h.service.expire(0)
        self.assertEqual(self.h.state(), "Stable")
        member.leave()
        self.h.service.expire(0)
        self.assertEqual(self.h.service.all(), [])
        self.assertEqual(self.h.store.rows("consumer_groups"), {})


class AdministrationTests(ConsumerCase):
    def test_listing(self) -> None:
        first, second = self.two()
        self.assertEqual(self.h.service.all(), [("g", "consumer", "Stable", "consumer")])
        self.assertEqual(self.h.service.describe("g").state, "Dead")
        first.leave()
        second.leave()
        self.assertEqual(self.h.service.all(), [("g", "consumer", "Empty", "consumer")])

    def test_only_an_empty_group_is_deleted(self) -> None:
        member = Member(self.h, "t")
        member.beat()
        self.h.service.commit("g", 1, member.member_id, None, {tp(): CommittedOffset(1)})
        self.assert_refused(Outcome(self.h.service.delete("g")), ErrorCode.GROUP_NOT_EMPTY)
        member.leave()
        self.assertIsNone(Outcome(self.h.service.delete("g")).value)
        self.assertEqual(self.h.service.all(), [])
        self.assertEqual(self.h.store.rows("consumer_groups"), {})
        self.assertEqual(self.h.store.rows(OFFSETS_TABLE), {})


class ChangeOfProtocolTests(ConsumerCase):
    def join_classic(self, **fields) -> Outcome:
        request = {
            "member_id": "",
            "instance_id": None,
            "client_id": "c",
            "client_host": "/h",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "protocol_type": "consumer",
            "protocols": (("range", b""),),
            **fields,
        }
        outcome = Outcome(self.h.service.join(JoinRequest(group_id="g", **request)))
        self.h.clock.advance(0.02)
        return outcome

    def test_an_empty_classic_group_is_taken_over_with_its_offsets(self) -> None:
        self.h.service.commit("g", -1, "", None, {tp(): CommittedOffset(3)})
        joined = self.join_classic().value
        self.assert_refused(self.h.join(), ErrorCode.GROUP_NOT_FOUND)
        self.h.service.leave("g", [LeavingMember(joined.member_id, None)])
        generation = self.h.store.rows(GROUPS_TABLE)["g"]["generation"]
        self.assertEqual(self.h.join("m").value.member_epoch, generation + 1)
        self.assertEqual(self.h.store.rows(GROUPS_TABLE), {})
        self.assertEqual(self.h.service.committed("g", None)[tp()].offset, 3)
        self.h.restart()
        self.assertEqual([group.group_type for group in self.h.service.all()], ["consumer"])

    def test_an_empty_consumer_group_becomes_classic(self) -> None:
        member = Member(self.h, "t")
        member.beat()
        self.assert_refused(self.join_classic(), ErrorCode.INCONSISTENT_PROTOCOL)
        member.leave()
        epoch = self.group().group_epoch
        self.assertEqual(self.join_classic().value.generation, epoch + 1)
        self.assertEqual(self.h.store.rows("consumer_groups"), {})
        self.h.restart()
        self.assertEqual([group.group_type for group in self.h.service.all()], ["classic"])

    def test_a_refused_join_leaves_the_group_as_it_is(self) -> None:
        self.h.service.commit("g", -1, "", None, {tp(): CommittedOffset(3)})
        self.assert_refused(self.h.join(topic_names=None, topic_pattern="("), ErrorCode.INVALID_PATTERN)
        self.assertEqual([group.group_type for group in self.h.service.all()], ["classic"])
