"""Groups with members that change their protocol: upgrade, members of both kinds, downgrade (KIP-848)."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from megabroker.core.groups.classic_groups import GROUPS_TABLE
from megabroker.core.groups.consumer_service import CONSUMER_GROUPS_TABLE
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import CommittedOffset, LeavingMember, SyncRequest
from megabroker.protocols.kafka.consumer_metadata import ConsumerMetadata, subscribed_topics
from tests.unit.classic_member import ClassicMember, run, subscription
from tests.unit.consumer_groups_harness import ConsumerHarness, Member
from tests.unit.groups_harness import Outcome, tp


class ConversionCase(SynchronousTestCase):
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.h = ConsumerHarness(offsets_check_interval_ms=0, **self.settings)
        self.t = self.h.topic("t", 4)

    def tearDown(self) -> None:
        self.h.service.stop()
        self.assertEqual(self.h.clock.getDelayedCalls(), [])

    def classic(self, count: int = 2, **options: Any) -> list[ClassicMember]:
        members = [ClassicMember(self.h, "t", **options) for _ in range(count)]
        run(members)
        self.assertEqual(self.places(*members), [0, 1, 2, 3])
        return members

    def places(self, *members: Any) -> list[int]:
        """Return the partitions that are consumed, with repeats."""
        found: list[int] = []
        for member in members:
            if isinstance(member, ClassicMember):
                found += [index for _, index in member.owned]
            else:
                found += [index for indexes in member.owned.values() for index in indexes]
        return sorted(found)

    def kinds(self) -> list[tuple[str, str]]:
        return [(one.group_type, one.state) for one in self.h.service.all()]

    def commit(self, member_id: str, epoch: int, offset: int) -> Outcome:
        return Outcome(
            self.h.service.commit("g", epoch, member_id, None, {tp("t", 0): CommittedOffset(offset)})
        )


class UpgradeTests(ConversionCase):
    def test_a_classic_group_is_upgraded_by_a_member_of_the_consumer_protocol(self) -> None:
        for cooperative in (False, True):
            with self.subTest(cooperative=cooperative):
                self.setUp()
                old = self.classic(cooperative=cooperative)
                generation = old[0].generation
                self.commit(old[0].member_id, generation, 7)
                new = Member(self.h, "t")
                new.beat()
                self.assertIsNone(new.error)
                self.assertEqual(new.epoch, generation + 1)
                self.assertEqual(self.kinds(), [("consumer", "Reconciling")])
                run([*old, new])
                self.assertEqual(self.kinds(), [("consumer", "Stable")])
                self.assertEqual(self.places(*old, new), [0, 1, 2, 3])
                self.assertTrue(all(member.owned for member in (*old, new)))
                self.assertEqual(self.h.service.committed("g", None)[tp("t", 0)].offset, 7)
                described = self.h.service.describe_consumers("g").members
                self.assertEqual({one.member_id for one in described if not one.classic}, {new.member_id})
                self.assertEqual(len(described), 3)
                self.assertEqual(self.h.store.rows(GROUPS_TABLE), {})

    def test_who_waits_for_a_rebalance_joins_the_other_group(self) -> None:
        old = self.classic(cooperative=True)
        waiting = ClassicMember(self.h, "t", cooperative=True)
        waiting.step()  # is given an id
        waiting.step()
        waiting.step()  # waits for the others to join
        assert waiting.joining is not None
        self.assertTrue(waiting.joining.waits)
        new = Member(self.h, "t")
        new.beat()
        self.assertEqual(waiting.joining.value.member_id, waiting.member_id)
        self.assertEqual(waiting.joining.value.generation, self.h.service.describe_consumers("g").group_epoch)
        run([*old, waiting, new])
        self.assertEqual(self.places(*old, waiting, new), [0, 1, 2, 3])
        self.assertEqual(len(self.h.service.describe_consumers("g").members), 4)

    def test_a_static_member_that_waits_joins_the_other_group_too(self) -> None:
        old = self.classic()
        waiting = ClassicMember(self.h, "t", instance_id="i")
        waiting.step()
        assert waiting.joining is not None
        self.assertTrue(waiting.joining.waits)
        new = Member(self.h, "t")
        new.beat()
        run([*old, waiting, new])
        self.assertIsNone(waiting.error)
        self.assertEqual(self.places(*old, waiting, new), [0, 1, 2, 3])
        self.assertEqual(len(self.h.service.describe_consumers("g").members), 4)

    def test_a_static_member_whose_place_is_taken_hears_of_it(self) -> None:
        self.classic()
        waiting = ClassicMember(self.h, "t", instance_id="i")
        waiting.step()
        new = Member(self.h, "t", instance_id="i")
        new.beat()
        assert waiting.joining is not None
        self.assertIs(waiting.joining.error.code, ErrorCode.FENCED_INSTANCE)
        self.assertEqual(self.kinds()[0][0], "consumer")

    def test_who_waits_for_the_leaders_assignment_joins_again(self) -> None:
        leader, other = ClassicMember(self.h, "t"), ClassicMember(self.h, "t")
        run([leader], 6)
        for member in (other, other, other, leader, leader, other):
            member.step()  # is given an id, joins; the leader hears of it, joins too; the other one syncs
        assert other.syncing is not None
        self.assertTrue(other.syncing.waits)
        new = Member(self.h, "t")
        new.beat()
        self.assertIs(other.syncing.error.code, ErrorCode.REBALANCE_IN_PROGRESS)
        run([leader, other, new])
        self.assertEqual(self.places(leader, other, new), [0, 1, 2, 3])

    def test_what_a_cooperative_member_has_not_given_up_is_nobody_elses(self) -> None:
        [old] = self.classic(1, cooperative=True)
        other = ClassicMember(self.h, "t", cooperative=True)
        for _ in range(9):  # until its assignment without what it is to give up has come
            if old.assigned != old.owned:
                break
            other.step()
            old.step()
        self.assertEqual((len(old.owned), len(old.assigned)), (4, 2))
        new = Member(self.h, "t")
        for _ in range(3):
            new.beat()
            other.step()
        self.assertEqual(self.places(new, other), [])
        run([old, other, new])
        self.assertEqual(self.places(old, other, new), [0, 1, 2, 3])

    def test_a_group_of_others_than_consumers_is_refused(self) -> None:
        member = ClassicMember(self.h, "t")
        run([member])
        group = self.h.service._directory.classic["g"].automaton
        for damage in ("type", "metadata", "assignment"):
            with self.subTest(damage=damage):
                [inner] = group.members
                before = group.protocol_type, inner.protocols, inner.assignment
                if damage == "type":
                    group.protocol_type = "connect"
                elif damage == "metadata":
                    inner.protocols = (("range", b"\0"),)
                else:
                    inner.assignment = b"\0\1\xff"
                self.assertIs(self.h.join("m").error.code, ErrorCode.GROUP_NOT_FOUND)
                group.protocol_type, inner.protocols, inner.assignment = before
                self.assertEqual(self.kinds(), [("classic", "Stable")])
        self.assertEqual(self.h.join("m").value.member_id, "m")

    def test_a_refused_member_leaves_the_classic_group_as_it_is(self) -> None:
        old = self.classic()
        refused = self.h.join("m", topic_pattern="(")
        self.assertIs(refused.error.code, ErrorCode.INVALID_PATTERN)
        self.assertIs(self.h.beat("m", 5).error.code, ErrorCode.GROUP_NOT_FOUND)
        run(old, 2)
        self.assertEqual(self.kinds(), [("classic", "Stable")])

    def test_members_outlive_a_restart(self) -> None:
        old = self.classic()
        new = Member(self.h, "t")
        run([*old, new])
        had = [set(member.owned) for member in old]
        self.h.restart()
        run([*old, new], 2)
        self.assertEqual([set(member.owned) for member in old], had)
        self.assertEqual(self.places(*old, new), [0, 1, 2, 3])
        self.assertEqual(self.kinds(), [("consumer", "Stable")])


class MixedTests(ConversionCase):
    def setUp(self) -> None:
        super().setUp()
        self.new = Member(self.h, "t")
        self.new.beat()

    def add(self, **options: Any) -> ClassicMember:
        member = ClassicMember(self.h, "t", **options)
        run([self.new, member])
        self.assertEqual(self.places(self.new, member), [0, 1, 2, 3])
        return member

    def assert_refused(self, code: ErrorCode, function: Any, *args: Any) -> None:
        with self.assertRaises(BrokerError) as caught:
            function(*args)
        self.assertIs(caught.exception.code, code)

    def test_a_classic_member_joins_and_shares(self) -> None:
        for options in ({"cooperative": True}, {"cooperative": False}, {"version": 0}, {"instance_id": "i"}):
            with self.subTest(**options):
                self.setUp()
                member = self.add(**options)
                self.assertEqual(len(member.owned), 2)

    def test_a_member_that_is_silent_goes_after_its_own_session_timeout(self) -> None:
        self.add(session_timeout_ms=6_000)
        for _ in range(13):
            self.new.beat()
            self.h.advance(0.5)
        self.assertEqual(len(self.h.service.describe_consumers("g").members), 1)
        run([self.new])
        self.assertEqual(self.places(self.new), [0, 1, 2, 3])

    def test_who_is_told_to_join_and_does_not_goes_after_its_rebalance_timeout(self) -> None:
        member = self.add(cooperative=True, session_timeout_ms=20_000)
        self.h.topic("u", 2)
        self.new.names |= {"u"}
        self.new.beat(full=True)
        for _ in range(62):
            self.new.beat()
            try:
                self.h.service.heartbeat("g", member.generation, member.member_id, None)
            except BrokerError as error:
                self.assertIn(error.code, (ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.UNKNOWN_MEMBER))
            self.h.advance(0.5)
        self.assertEqual(len(self.h.service.describe_consumers("g").members), 1)

    def test_who_joins_and_does_not_sync_goes_after_its_rebalance_timeout(self) -> None:
        member = ClassicMember(self.h, "t", session_timeout_ms=60_000)
        member.step()
        member.step()
        member.step()  # joins, and never hears the answer
        self.assertEqual(len(self.h.service.describe_consumers("g").members), 2)
        for _ in range(61):
            self.new.beat()
            self.h.advance(0.5)
        self.assertEqual(len(self.h.service.describe_consumers("g").members), 1)

    def test_what_is_refused(self) -> None:
        member = self.add()
        service, me, epoch = self.h.service, member.member_id, member.generation
        self.assert_refused(ErrorCode.ILLEGAL_GENERATION, service.heartbeat, "g", epoch + 1, me, None)
        self.assert_refused(ErrorCode.UNKNOWN_MEMBER, service.heartbeat, "g", epoch, "x", None)
        self.assert_refused(ErrorCode.UNKNOWN_MEMBER, service.heartbeat, "g", epoch, self.new.member_id, None)
        self.assert_refused(ErrorCode.UNKNOWN_MEMBER, service.heartbeat, "g", epoch, me, "i")
        self.assertIs(self.commit(me, epoch + 1, 1).error.code, ErrorCode.ILLEGAL_GENERATION)
        self.assertEqual(self.commit(me, epoch, 1).value, {tp("t", 0): None})
        sync = SyncRequest("g", epoch, me, None, "consumer", "other", {})
        self.assertIs(Outcome(service.sync(sync)).error.code, ErrorCode.INCONSISTENT_PROTOCOL)
        [outcome] = service.leave("g", [LeavingMember("x", None)])
        assert outcome is not None
        self.assertIs(outcome.code, ErrorCode.UNKNOWN_MEMBER)

    def test_the_classic_request_removes_the_last_member_of_the_consumer_protocol(self) -> None:
        member = self.add()
        self.assertEqual(self.h.service.leave("g", [LeavingMember(self.new.member_id, None)]), [None])
        self.h.advance(0.5)
        run([member], 6)
        self.assertIsNone(member.error)
        self.assertEqual(self.h.service.describe("g").members[0].member_id, member.member_id)

    def test_protocols_that_not_all_classic_members_know_are_refused(self) -> None:
        self.add(protocols=("range", "roundrobin"))
        other = ClassicMember(self.h, "t", protocols=("sticky",))
        run([other, self.new], 3)
        assert other.error is not None
        self.assertIs(other.error.code, ErrorCode.INCONSISTENT_PROTOCOL)
        third = ClassicMember(self.h, "t", protocols=("sticky", "roundrobin"))
        run([third, self.new], 3)
        self.assertIsNone(third.error)

    def test_other_types_and_damaged_subscriptions_are_refused(self) -> None:
        member = ClassicMember(self.h, "t")
        for change in ("type", "metadata"):
            with self.subTest(change=change):
                join = self.h.service.join

                def changed(request: Any, change: str = change, join: Any = join) -> Any:
                    fields: dict[str, Any] = {"protocol_type": "connect"}
                    if change == "metadata":
                        fields = {"protocols": (("range", b"\0\1\xff"),)}
                    return join(attrs.evolve(request, **fields))

                self.h.service.join = changed  # type: ignore[method-assign]
                member.error = None
                run([member], 2)
                self.h.service.join = join  # type: ignore[method-assign]
                assert member.error is not None
                self.assertIs(member.error.code, ErrorCode.INCONSISTENT_PROTOCOL)

    def test_a_static_member_keeps_its_place_across_protocols(self) -> None:
        member = self.add(instance_id="i")
        had = set(member.owned)
        back = ClassicMember(self.h, "t", instance_id="i")
        run([self.new, back])
        self.assertEqual(back.owned, had)
        self.assertNotEqual(back.member_id, member.member_id)
        member.beat()
        assert member.error is not None
        self.assertIs(member.error.code, ErrorCode.FENCED_INSTANCE)
        modern = Member(self.h, "t", instance_id="i")
        run([self.new, modern])
        self.assertEqual({("t", index) for _, index in modern.has}, had)
        self.assertEqual(self.kinds(), [("consumer", "Stable")])
        self.assertEqual(len(self.h.service.describe_consumers("g").members), 2)

    def test_a_classic_member_leaves(self) -> None:
        member = self.add()
        self.assertIsNone(member.leave())
        run([self.new])
        self.assertEqual(self.places(self.new), [0, 1, 2, 3])
        self.assertEqual(self.kinds(), [("consumer", "Stable")])

    def test_who_was_removed_and_comes_back_with_what_it_had_has_to_give_it_up(self) -> None:
        member = self.add(cooperative=True)
        for _ in range(25):
            self.new.beat()
            self.h.advance(0.5)
        self.assertEqual(self.places(self.new), [0, 1, 2, 3])
        member.join()
        assert member.joining is not None
        self.assertIs(member.joining.error.code, ErrorCode.UNKNOWN_MEMBER)
        run([self.new, member])
        self.assertEqual(self.places(self.new, member), [0, 1, 2, 3])
        self.assertEqual(len(member.owned), 2)

    def test_a_full_group_takes_no_more(self) -> None:
        self.h.service._directory.consumers._groups["g"].automaton.settings = self.h.settings.__class__(
            group_max_size=1
        )
        member = ClassicMember(self.h, "t")
        run([member], 3)
        assert member.error is not None
        self.assertIs(member.error.code, ErrorCode.GROUP_FULL)


class DowngradeTests(ConversionCase):
    def mixed(self, **options: Any) -> tuple[Member, list[ClassicMember]]:
        new = Member(self.h, "t", instance_id=options.pop("new_instance", None))
        new.beat()
        old = [ClassicMember(self.h, "t", **options) for _ in range(2)]
        run([new, *old])
        return new, old

    def test_the_last_member_of_the_consumer_protocol_leaves(self) -> None:
        for cooperative in (False, True):
            with self.subTest(cooperative=cooperative):
                self.setUp()
                new, old = self.mixed(cooperative=cooperative)
                epoch = new.epoch
                self.commit(old[0].member_id, epoch, 9)
                new.leave()
                self.assertEqual(self.kinds(), [("classic", "PreparingRebalance")])
                self.assertEqual(self.h.store.rows(CONSUMER_GROUPS_TABLE), {})
                # Whoever is in the epoch is still known by it, so that it can commit before it joins again.
                self.assertEqual(self.commit(old[0].member_id, epoch, 10).value, {tp("t", 0): None})
                run(old)
                self.assertEqual(self.places(*old), [0, 1, 2, 3])
                self.assertEqual(self.kinds(), [("classic", "Stable")])
                self.assertEqual(self.h.service.committed("g", None)[tp("t", 0)].offset, 10)
                self.assertGreater(old[0].generation, epoch)

    def test_it_goes_away_in_silence(self) -> None:
        _, old = self.mixed()
        run(old, 100)
        self.assertEqual(self.kinds(), [("classic", "Stable")])
        self.assertEqual(self.places(*old), [0, 1, 2, 3])

    def test_a_static_member_comes_back_as_a_classic_one(self) -> None:
        new, old = self.mixed(new_instance="i")
        back = ClassicMember(self.h, "t", instance_id="i")
        run([back, *old])
        self.assertEqual(self.kinds(), [("classic", "Stable")])
        self.assertEqual(self.places(back, *old), [0, 1, 2, 3])
        self.assertIs(self.h.beat(new.member_id, new.epoch).error.code, ErrorCode.GROUP_NOT_FOUND)

    def test_there_and_back_and_there_again(self) -> None:
        new, old = self.mixed(cooperative=True)
        new.leave()
        run(old)
        again = Member(self.h, "t")
        run([again, *old])
        self.assertEqual(self.kinds(), [("consumer", "Stable")])
        self.assertEqual(self.places(again, *old), [0, 1, 2, 3])
        for member in old:
            member.leave()
        run([again])
        self.assertEqual(self.places(again), [0, 1, 2, 3])

    def test_the_answer_waits_for_the_store(self) -> None:
        new, old = self.mixed()
        self.h.store.hold = True
        gone = new.leave()
        self.assertTrue(gone.waits)
        self.h.store.hold = False
        self.h.store.release()
        self.assertEqual(gone.value.member_epoch, -1)
        run(old)
        self.assertEqual(self.places(*old), [0, 1, 2, 3])


class PolicyTests(ConversionCase):
    settings = {"may_upgrade": False, "may_downgrade": False}

    def test_a_classic_group_stays_one(self) -> None:
        self.classic()
        self.assertIs(self.h.join("m").error.code, ErrorCode.GROUP_NOT_FOUND)

    def test_a_group_of_the_consumer_protocol_stays_one(self) -> None:
        new = Member(self.h, "t")
        new.beat()
        old = ClassicMember(self.h, "t")
        run([new, old])
        new.leave()
        run([old])
        self.assertEqual(self.kinds(), [("consumer", "Stable")])
        self.assertEqual(self.places(old), [0, 1, 2, 3])


class MetadataTests(SynchronousTestCase):
    def test_hostile_bytes_are_no_subscription(self) -> None:
        metadata = ConsumerMetadata()
        whole = subscription(["a", "b"], {("a", 1)})
        for end in range(len(whole)):
            self.assertIsNone(metadata.read_subscription(whole[:end]))
        without_owned = subscription(["a", "b"], version=0).replace(b"\0\0", b"\0\1", 1)
        self.assertIsNone(metadata.read_subscription(without_owned))
        self.assertEqual(subscribed_topics("consumer", without_owned), {"a", "b"})
        self.assertIsNone(subscribed_topics("consumer", without_owned[:5]))
        self.assertIsNone(subscribed_topics("connect", whole))
        found = metadata.read_subscription(whole)
        assert found is not None
        self.assertEqual((found.version, found.topics), (1, {"a", "b"}))
        self.assertEqual(found.owned, {"a": {1}})
        self.assertIsNone(metadata.read_assignment(b"\0"))
        self.assertEqual(metadata.read_assignment(b""), {})
        for version in (0, 1, 3, 7):
            written = metadata.write_assignment(version, {"t": frozenset({2, 0})})
            self.assertEqual(metadata.read_assignment(written), {"t": {0, 2}})
            self.assertEqual(int.from_bytes(written[:2], "big"), min(version, 3))
