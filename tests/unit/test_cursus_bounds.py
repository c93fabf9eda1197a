"""What the later dialect of cursus keeps and does at once is bounded."""

from __future__ import annotations

import re
import struct
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred, ensureDeferred

from megabroker.codec.batch import build, read_header
from megabroker.model import Acks, HostPort, Listener
from megabroker.protocols.cursus.factory import CursusFactory
from megabroker.protocols.cursus.later import groups
from megabroker.protocols.cursus.later.batch import decode_batch
from megabroker.protocols.cursus.later.following import Followers
from megabroker.protocols.cursus.later.refusals import Refusal
from megabroker.protocols.cursus.later.stream_index import EventIndex
from megabroker.protocols.cursus.settings import CursusSettings
from tests.unit.test_access_other_wires import TextCase


class BoundsTests(TextCase):
    config = ""

    def setUp(self) -> None:
        super().setUp()
        listener = Listener("cursus", "default", HostPort("localhost", 1))
        self.open(CursusFactory(self.service.broker, CursusSettings(), listener))

    def ask(self, text: str) -> str:
        frame = b"\0\0" + text.encode()
        return self.exchange(struct.pack(">I", len(frame)) + frame)[4:].decode("latin-1")

    def find(self, followers: Followers[EventIndex], topic: str) -> Deferred[Any]:
        return ensureDeferred(followers.find(topic, 0))

    def test_what_was_not_used_lately_is_made_anew(self) -> None:
        for topic in ("one", "two"):
            self.assertIn("OK", self.ask(f"CREATE topic={topic} partitions=1 event_sourcing=true"))
            for version in (1, 2, 3):
                told = self.ask(f"APPEND_STREAM topic={topic} key=k version={version} message=m")
                self.assertEqual(told, f"OK version={version} offset={version - 1} partition=0")
        followers = Followers(self.service.broker, EventIndex, 400)
        first = self.done(self.find(followers, "one"))[1]
        self.assertEqual(first.index.version(b"k"), 3)
        self.assertIs(self.done(self.find(followers, "one"))[1], first)
        self.assertEqual(self.done(self.find(followers, "two"))[1].index.version(b"k"), 3)
        self.assertIsNot(self.done(self.find(followers, "one"))[1], first)
        small = Followers(self.service.broker, EventIndex, 200)
        refused = self.failureResultOf(self.find(small, "one"), Refusal)
        self.assertIn("protocols.cursus.stream_index_bytes", refused.getErrorMessage())

    def test_an_index_is_refused_before_all_of_its_log_is_read(self) -> None:
        self.assertIn("OK", self.ask("CREATE topic=wide partitions=1 event_sourcing=true"))
        headers = [("aggregate_version", b"1")]
        data = build((b"%d" % number, b"", headers, 1) for number in range(5_000))
        stored: list[Any] = []
        partition = self.service.core.topics.partition("wide", 0)
        partition.append(read_header(data, 0, len(data)), data, Acks.DURABLE, stored.append)
        self.reactor.until(lambda: stored == [None])
        made: list[EventIndex] = []

        def make(position: int) -> EventIndex:
            made.append(EventIndex(position))
            return made[-1]

        followers = Followers(self.service.broker, make, 200_000)
        asked = [self.find(followers, "wide") for _ in range(3)]
        self.reactor.until(lambda: all(one.called for one in asked))
        for one in asked:
            self.assertIn("stream_index_bytes", self.failureResultOf(one, Refusal).getErrorMessage())
        self.assertLess(made[0].size_bytes, 400_000)
        self.assertEqual(len(made), 1)

    def test_what_headers_say_counts_for_the_bytes_of_a_batch(self) -> None:
        self.assertIn("OK", self.ask("CREATE topic=heads partitions=1"))
        headers = [("event_type", b"e" * 60_000), ("metadata", b"m" * 60_000)]
        partition = self.service.core.topics.partition("heads", 0)
        stored: list[Any] = []
        for _ in range(60):
            data = build([(b"k", b"", headers, 1)])
            partition.append(read_header(data, 0, len(data)), data, Acks.DURABLE, stored.append)
        self.reactor.until(lambda: stored == [None] * 60)
        found: list[int] = []
        while len(found) < 60:
            words = b"\0\0CONSUME topic=heads partition=0 offset=%d member=m group=g" % len(found)
            frame = self.exchange(struct.pack(">I", len(words)) + words)
            self.assertLessEqual(len(frame), (4 << 20) + 1024)
            found += [message.offset for message in decode_batch(frame[4:], 60).messages]
        self.assertEqual(found, list(range(60)))

    def test_a_group_has_room_for_more_members_than_short_suffixes(self) -> None:
        self.assertIn("OK", self.ask("CREATE topic=busy partitions=1"))
        with patch.object(groups, "_SUFFIXES", 2):
            told = [self.ask("JOIN_GROUP topic=busy group=g member=m") for _ in range(4)]
        members = {re.sub("^OK generation=[0-9]+ member=([^ ]+) .*", r"\1", one) for one in told}
        self.assertEqual(len(members), 4, told)
        self.assertLess({"m-0000", "m-0001"}, members)

    def test_a_pattern_is_for_few_topics(self) -> None:
        for number in range(101):
            self.done(self.service.core.topics.create(f"many{number}", 1))
        told = self.ask("CONSUME topic=many* partition=0 offset=0 member=m")
        self.assertTrue(told.startswith("ERROR: invalid_topic_name reason="), told)
        told = self.ask("CONSUME topic=many1* partition=0 offset=0 member=m")
        self.assertFalse(told.startswith("ERROR: "), told)
