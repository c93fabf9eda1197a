"""Members of share groups that send whatever can be encoded: everything is answered, in order."""

from __future__ import annotations

import random
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.protocols.kafka.schema import share_acknowledge, share_fetch
from tests.property.test_kafka_apis_hostile import _fill
from tests.unit.share_fetch_harness import ShareCase, ShareMember

_REQUESTS = (share_fetch.Request, share_acknowledge.Request)


class HostileMembersTests(ShareCase):
    @settings(max_examples=100, deadline=None)
    @given(st.integers(min_value=0))
    def test_everything_is_answered_in_order(self, seed: int) -> None:
        chance = random.Random(seed)
        self.configure(share_auto_offset_reset="earliest", share_record_lock_duration_ms="1000")
        members = [ShareMember(self, name) for name in "abc"]
        ids = [bytes(16), self.topic.id.bytes, self.topic.id.bytes, b"?" * 16]
        sent: dict[str, list[int]] = {member.name: [] for member in members}
        for number in range(40):
            member = chance.choice(members)
            self.send(self.something(chance, member, ids), 2, member.connection)
            sent[member.name].append(number)
            if chance.random() < 0.3:
                self.produce(*[b"v"] * chance.randint(1, 3), index=chance.randint(0, 1))
            if chance.random() < 0.2:
                self.turns(0.6)
        self.turns(700)
        for member in members:
            self.assertFalse(member.connection.transport.disconnecting)
            self.assertEqual(self.count(member.connection.transport.value()), len(sent[member.name]))
        self.assertEqual(self.flushLoggedErrors(), [])
        for place in self.service.core.shares.partitions.places("g"):
            live = self.service.core.shares.partitions.get("g", place)
            assert live is not None
            self.assertEqual([run for run in live.automaton.runs if run.member_id], [])

    def something(self, chance: random.Random, member: ShareMember, ids: list[bytes]) -> Any:
        """Return a request of this member, with some of it as it should be."""
        request = _fill(chance, chance.choice(_REQUESTS), 2, ids)
        request.group_id, request.member_id = "g", member.name
        if chance.random() < 0.7:
            session = self.service.core.shares.sessions._sessions.get(("g", member.name))
            request.share_session_epoch = 0 if session is None else session.epoch
        if isinstance(request, share_fetch.Request) and chance.random() < 0.7:
            request.max_records, request.max_bytes, request.is_renew_ack = 100, 10_000, False
            request.max_wait_ms = chance.choice((0, 50, 5000))
        for topic in request.topics:
            for partition in topic.partitions:
                if chance.random() < 0.8:
                    partition.partition_index = chance.randint(0, 1)
                for batch in partition.acknowledgement_batches:
                    if chance.random() < 0.8:
                        batch.first_offset = chance.randint(0, 20)
                        batch.last_offset = batch.first_offset + chance.randint(0, 5)
                        batch.acknowledge_types = [chance.randint(0, 3)]
        return request

    def count(self, data: bytes) -> int:
        """Return how many answers there are."""
        count = position = 0
        while position < len(data):
            (size,) = struct.unpack_from(">i", data, position)
            position += 4 + size
            count += 1
        self.assertEqual(position, len(data))
        return count
