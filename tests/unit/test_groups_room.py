"""What groups may take together: how many there are, what their members say, how many offsets they have."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from megabroker.errors import ErrorCode
from megabroker.model import CommittedOffset, JoinRequest, LeavingMember, SyncRequest
from tests.unit.consumer_groups_harness import ConsumerHarness
from tests.unit.groups_harness import Outcome, tp


class RoomCase(SynchronousTestCase):
    settings: dict[str, Any]

    def setUp(self) -> None:
        self.h = ConsumerHarness(offsets_check_interval_ms=0, **self.settings)
        self.h.topic("t", 10)
        self.service = self.h.service

    def tearDown(self) -> None:
        self.service.stop()

    def join(self, group_id: str, metadata: bytes = b"", member_id: str = "") -> Outcome:
        request = JoinRequest(
            group_id, member_id, None, "c", "/h", 10_000, 10_000, "consumer", (("range", metadata),)
        )
        outcome = Outcome(self.service.join(request))
        self.h.clock.advance(0.01)
        return outcome

    def commit(self, group_id: str, *partitions: int) -> Outcome:
        offsets = {tp("t", partition): CommittedOffset(1) for partition in partitions}
        return Outcome(self.service.commit(group_id, -1, "", None, offsets))

    def assert_full(self, outcome: Outcome) -> None:
        self.assertIs(outcome.error.code, ErrorCode.GROUP_FULL)


class GroupsTests(RoomCase):
    settings = {"max_groups": 3}

    def test_one_group_more_is_refused_and_those_there_are_go_on(self) -> None:
        member = self.join("classic").value.member_id
        self.assertEqual(self.h.join(group_id="consumer").value.member_epoch, 1)
        self.commit("offsets", 0).value
        self.assert_full(self.join("one-more"))
        self.assert_full(self.h.join(group_id="one-more"))
        self.assert_full(self.commit("one-more", 0))
        self.assertEqual(self.service.room.refused_groups, 3)
        self.assertEqual([group.group_id for group in self.service.all()], ["classic", "consumer", "offsets"])
        self.assertEqual(self.h.join(group_id="consumer").value.member_epoch, 2)
        self.commit("offsets", 1).value
        # One that goes makes room.
        self.service.leave("classic", [LeavingMember(member, None)])
        Outcome(self.service.delete("classic")).value
        self.assertEqual(self.join("one-more").value.generation, 1)


class MemberBytesTests(RoomCase):
    settings = {"max_member_bytes": 100_000}

    def test_what_members_say_has_a_bound_that_those_who_leave_make_room_in(self) -> None:
        first = self.join("a", bytes(50_000)).value
        self.assert_full(self.join("b", bytes(50_000)))
        self.assert_full(
            self.h.join(group_id="c", topic_names=frozenset("x" * 249 + str(i) for i in range(200)))
        )
        self.assertEqual(self.service.room.refused_members, 2)
        self.assertEqual(self.join("b", bytes(100)).value.generation, 1)
        assignments = {first.member_id: bytes(60_000)}
        sync = SyncRequest("a", 1, first.member_id, None, None, None, assignments)
        self.assert_full(Outcome(self.service.sync(sync)))
        self.service.leave("a", [LeavingMember(first.member_id, None)])
        self.h.clock.advance(1)
        self.assertEqual(self.join("d", bytes(60_000)).value.generation, 1)

    def test_members_that_come_again_and_again_are_counted_once(self) -> None:
        member = self.join("a", bytes(30_000)).value.member_id
        for _ in range(8):
            self.h.clock.advance(1)
            self.assertEqual(self.join("a", bytes(30_000), member).value.member_id, member)
        self.assertEqual(self.service.room.refused_members, 0)

    def test_those_who_say_nothing_new_are_never_refused(self) -> None:
        member = self.h.join(group_id="c").value
        self.join("a", bytes(95_000))
        self.assert_full(self.join("b", bytes(95_000)))
        self.assertEqual(self.h.beat(member.member_id, 1, "c").value.member_epoch, 1)


class OffsetsTests(RoomCase):
    settings = {"max_offsets": 3}

    def test_an_offset_more_is_refused_and_those_there_are_move_on(self) -> None:
        self.commit("a", 0, 1).value
        self.commit("b", 0).value
        more = self.commit("a", 0, 1, 2).value
        self.assertEqual(more, {tp("t", 0): None, tp("t", 1): None, tp("t", 2): ErrorCode.OFFSET_LIMIT})
        self.assertEqual(self.service.room.refused_offsets, 1)
        Outcome(self.service.delete_offsets("b", [tp("t", 0)])).value
        self.assertEqual(self.commit("a", 2).value, {tp("t", 2): None})
        self.h.restart()
        self.service = self.h.service
        self.assertEqual(self.commit("a", 3).value, {tp("t", 3): ErrorCode.OFFSET_LIMIT})
        self.h.delete("t")
