"""Telling other processes what has changed: who is behind, who waits, and for how long."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.following import FollowedStore, Followers, Following
from megabroker.errors import ErrorCode, PeerError, StorageError
from megabroker.interfaces import IMetadataStore
from megabroker.model import Change
from tests.unit.core_fakes import FakeMetadata

ROWS = {"topics": {"orders"}}


class FollowersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[int, Any, Deferred[None]]] = []
        self.followers = Followers(self.clock, [2, 3], self.tell)

    def tell(self, node_id: int, rows: Any) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.told.append((node_id, rows, done))
        return done

    def pending(self) -> list[tuple[int, Any]]:
        return [(node_id, rows) for node_id, rows, _ in self.told]

    def changed(self) -> Deferred[None]:
        """Have something changed, and the turn ended."""
        done = self.followers.changed(ROWS)
        self.clock.advance(0)
        return done

    def answer(self, error: Exception | None = None) -> None:
        """Have everybody who was told answer."""
        told, self.told = self.told, []
        for _, _, done in told:
            if error is None:
                done.callback(None)
            else:
                done.errback(error)

    def start(self) -> None:
        self.followers.start()
        self.answer()

    def test_everybody_reads_everything_first(self) -> None:
        followed = self.followers.followed()
        self.followers.start()
        self.assertEqual(self.pending(), [(2, None), (3, None)])
        self.assertNoResult(followed)
        self.answer()
        self.successResultOf(followed)
        self.successResultOf(self.followers.followed())

    def test_a_change_is_done_when_all_follow(self) -> None:
        self.start()
        done = self.changed()
        self.assertEqual(self.pending(), [(2, ROWS), (3, ROWS)])
        self.told.pop(0)[2].callback(None)
        self.assertNoResult(done)
        self.answer()
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_all_changes_of_a_turn_are_told_at_once(self) -> None:
        self.start()
        done = [self.followers.changed({"topics": {name}, "quotas": {"all"}}) for name in ("a", "b")]
        self.clock.advance(0)
        rows = {"topics": {"a", "b"}, "quotas": {"all"}}
        self.assertEqual(self.pending(), [(2, rows), (3, rows)])
        self.answer()
        for one in done:
            self.successResultOf(one)

    def test_one_who_did_not_follow_is_told_everything_until_it_does(self) -> None:
        self.start()
        done = self.changed()
        self.told.pop()[2].callback(None)
        self.answer(PeerError(ErrorCode.UNREACHABLE, "gone", sent=True))
        self.assertEqual(self.pending(), [(2, None)])
        for _ in range(3):
            self.answer(StorageError(ErrorCode.STORAGE, "busy"))
            self.assertEqual(self.pending(), [])
            self.clock.advance(0.5)
            self.assertEqual(self.pending(), [(2, None)])
        self.assertNoResult(done)
        self.answer()
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_is_waited_for_longer_than_that(self) -> None:
        self.start()
        done = self.changed()
        self.clock.advance(10)
        self.successResultOf(done)
        followed = self.followers.followed()  # but it counts as behind
        self.assertEqual(self.pending(), [(2, ROWS), (3, ROWS), (2, None), (3, None)])
        late, self.told = self.told, []
        for _, _, asked in late[:2]:
            asked.callback(None)
        self.assertNoResult(followed)
        for _, _, asked in late[2:]:
            asked.callback(None)
        self.successResultOf(followed)

    def test_what_changes_while_one_is_behind_is_not_missed(self) -> None:
        self.followers.start()
        first, self.told = self.told, []
        done = self.changed()
        self.assertEqual(self.pending(), [])
        for _, _, asked in first:
            asked.callback(None)  # it may have read before the change
        self.assertEqual(self.pending(), [(2, None), (3, None)])
        self.assertNoResult(done)
        self.answer()
        self.successResultOf(done)

    def test_after_the_stop_nobody_is_told(self) -> None:
        self.followers.start()
        self.followers.stop()
        self.answer(PeerError(ErrorCode.UNREACHABLE, "stopping", sent=False))
        self.clock.advance(60)
        self.successResultOf(self.changed())
        self.assertEqual(self.pending(), [])


class FollowedStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = FakeMetadata()
        self.told: list[Any] = []
        self.asked: Deferred[None] = Deferred()
        self.clock = Clock()
        followers = Followers(self.clock, [2], self.tell)
        followers.start()
        self.followed = FollowedStore(self.store, followers, {"topics"})

    def tell(self, node_id: int, rows: Any) -> Deferred[None]:
        if rows is None:
            return succeed(None)
        self.told.append(rows)
        return self.asked

    def test_provides_the_interface(self) -> None:
        verifyObject(IMetadataStore, self.followed)

    def test_a_write_is_done_when_it_is_committed_and_followed(self) -> None:
        self.store.holding = True
        changes = [Change("topics", "a", 1), Change("offsets", "b", 2), Change("topics", "c", None)]
        done = self.followed.write(changes)
        self.assertEqual(self.told, [])
        self.store.commit()
        self.clock.advance(0)
        self.assertEqual(self.told, [{"topics": {"a", "c"}}])
        self.assertNoResult(done)
        self.asked.callback(None)
        self.successResultOf(done)

    def test_what_nobody_follows_is_not_told(self) -> None:
        self.successResultOf(self.followed.write([Change("offsets", "b", 2)]))
        self.assertEqual(self.successResultOf(self.followed.advance("ids", "next", 5)), 0)
        self.assertEqual(self.told, [])

    def test_what_is_not_committed_is_not_told(self) -> None:
        self.store.error = StorageError(ErrorCode.DISK_FULL, "no space left")
        self.failureResultOf(self.followed.write([Change("topics", "a", 1)]), StorageError)
        self.assertEqual(self.told, [])


class FollowingTests(SynchronousTestCase):
    def test_tables_are_followed_in_their_order_and_others_passed_over(self) -> None:
        seen: list[Any] = []
        asked: Deferred[None] = Deferred()

        def first(keys: Any) -> Deferred[None]:
            seen.append(("first", keys))
            return asked

        following = Following({"first": first, "second": lambda keys: seen.append(("second", keys))})
        done = following.follow(None)
        self.assertEqual(seen, [("first", None)])
        asked.callback(None)
        self.successResultOf(done)
        self.assertEqual(seen, [("first", None), ("second", None)])
        self.successResultOf(following.follow({"second": ["x"], "third": ["y"]}))
        self.assertEqual(seen[2:], [("second", ["x"])])

    def test_what_cannot_be_read_fails(self) -> None:
        def broken(keys: Any) -> None:
            raise StorageError(ErrorCode.STORAGE, "unreadable")

        self.failureResultOf(Following({"t": broken}).follow(None), StorageError)
