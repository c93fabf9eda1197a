"""Quotas: the arithmetic of windows and buckets, the order of eight levels, what is counted together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import task
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.quotas import service
from megabroker.core.quotas.rates import Rate, TokenBucket
from megabroker.core.quotas.service import QUOTAS_TABLE, Quotas
from megabroker.core.quotas.table import Holding, check_entity, check_value, client_limit
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IMeter, IMutations, IQuotas
from megabroker.model import Change, QuotaChange, QuotaEntity
from megabroker.storage.metadata.memory import MemoryMetadataStore

SECOND = 1000


def entity(**names: str | None) -> QuotaEntity:
    """Return the entity of these kinds and names; underscores stand for dashes."""
    return tuple(sorted(((kind.replace("_", "-"), name) for kind, name in names.items())))


class RateTests(SynchronousTestCase):
    def test_ten_seconds_worth_at_once_is_allowed(self) -> None:
        rate = Rate()
        rate.record(10_000, 0)
        self.assertEqual(rate.throttle_ms(1000, 0), 0)
        rate.record(1, 0)
        self.assertEqual(rate.throttle_ms(1000, 0), 1)

    def test_the_time_to_wait_makes_the_window_long_enough(self) -> None:
        # 15,000 in 10 s are 1,500 a second, 1.5 times too many: 5 s more.
        rate = Rate()
        rate.record(15_000, 0)
        self.assertEqual(rate.throttle_ms(1000, 0), 5000)
        # Until then a window is ten seconds and what has passed of the present one.
        self.assertEqual(rate.throttle_ms(1000, 4999), 4001)
        self.assertEqual(rate.throttle_ms(1000, 10_500), 4500)
        self.assertEqual(rate.throttle_ms(1000, 11_000), 0)

    def test_an_even_flow_is_let_through(self) -> None:
        rate = Rate()
        for now_ms in range(0, 100 * SECOND, 100):
            rate.record(99, now_ms)
            self.assertEqual(rate.throttle_ms(1000, now_ms), 0)

    def test_what_is_eleven_seconds_old_is_forgotten(self) -> None:
        rate = Rate()
        rate.record(1_000_000, 0)
        self.assertEqual(rate.total(11 * SECOND - 1), 1_000_000)
        self.assertFalse(rate.is_idle(11 * SECOND - 1))
        self.assertEqual(rate.total(11 * SECOND), 0)
        self.assertTrue(rate.is_idle(11 * SECOND))
        self.assertEqual(rate.throttle_ms(1, 11 * SECOND), 0)

    def test_a_clock_that_is_set_back_forgives(self) -> None:
        rate = Rate()
        rate.record(1_000_000, 3_600_000)
        self.assertEqual(rate.throttle_ms(1, 0), 0)
        rate.record(20, 0)
        self.assertEqual(rate.throttle_ms(1, 0), 10_000)

    def test_the_time_to_wait_fits_the_wire(self) -> None:
        rate = Rate()
        rate.record(1e300, 0)
        self.assertEqual(rate.throttle_ms(5e-324, 0), 2**31 - 1)

    @given(
        st.integers(1, 10**6),
        st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 5000)), min_size=1, max_size=60),
    )
    def test_who_waits_as_told_keeps_to_the_limit(self, limit: int, requests: list[tuple[int, int]]) -> None:
        """Whatever is sent and however it is spaced, the mean over all the time is the limit at most."""
        rate = Rate()
        now_ms = total = 0
        largest = 0
        for amount, pause_ms in requests:
            now_ms += pause_ms
            rate.record(amount, now_ms)
            total += amount
            largest = max(largest, amount)
            now_ms += min(rate.throttle_ms(limit, now_ms), 11 * SECOND)
        # Ten seconds' worth is allowed at first; one request may exceed what is left, and eleven seconds
        # later nobody remembers.
        self.assertLessEqual(total, limit * (now_ms / 1000 + 11) + len(requests) * largest)
        if largest <= limit:
            self.assertLessEqual(total, limit * (now_ms / 1000 + 12))


class TokenBucketTests(SynchronousTestCase):
    def test_full_at_first(self) -> None:
        bucket = TokenBucket()
        self.assertTrue(bucket.is_idle(5))
        bucket.record(22, 2, 5)
        self.assertEqual(bucket.throttle_ms(2, 5), 0)
        bucket.record(3, 2, 5)
        self.assertEqual(bucket.throttle_ms(2, 5), 1500)
        self.assertEqual(bucket.throttle_ms(2, 1005), 500)
        self.assertEqual(bucket.throttle_ms(2, 1505), 0)
        self.assertFalse(bucket.is_idle(1505))
        self.assertTrue(bucket.is_idle(1505 + 11 * SECOND))

    def test_never_fuller_than_eleven_seconds(self) -> None:
        bucket = TokenBucket()
        bucket.record(0, 1, 0)
        bucket.record(12, 1, 1000 * SECOND)
        self.assertEqual(bucket.throttle_ms(1, 1000 * SECOND), 1000)

    def test_the_time_to_wait_fits_the_wire(self) -> None:
        bucket = TokenBucket()
        bucket.record(1e300, 5e-324, 0)
        self.assertEqual(bucket.throttle_ms(5e-324, 0), 2**31 - 1)


LEVELS: list[tuple[QuotaEntity, str, str]] = [
    (entity(user="u", client_id="c"), "u", "c"),
    (entity(user="u", client_id=None), "u", "c"),
    (entity(user="u"), "u", ""),
    (entity(user=None, client_id="c"), "u", "c"),
    (entity(user=None, client_id=None), "u", "c"),
    (entity(user=None), "u", ""),
    (entity(client_id="c"), "", "c"),
    (entity(client_id=None), "", "c"),
]
"""Kafka's order (KIP-55, KIP-546), and who shares the count of each."""


class PrecedenceTests(SynchronousTestCase):
    def test_the_first_of_the_eight_levels_holds(self) -> None:
        quotas: dict[QuotaEntity, dict[str, float]] = {
            level: {"producer_byte_rate": float(place)} for place, (level, _, _) in enumerate(LEVELS)
        }
        for place, (level, user, client_id) in enumerate(LEVELS):
            found = client_limit(quotas, "producer_byte_rate", "u", "c")
            self.assertEqual(found, Holding(float(place), user, client_id))
            del quotas[level]
        self.assertIsNone(client_limit(quotas, "producer_byte_rate", "u", "c"))

    def test_others_names_and_other_quotas_do_not_hold(self) -> None:
        quotas = {
            entity(user="v", client_id="c"): {"producer_byte_rate": 1.0},
            entity(client_id="d"): {"producer_byte_rate": 1.0},
            entity(user="u"): {"consumer_byte_rate": 1.0},
            entity(client_id=None): {"producer_byte_rate": 5.0},
        }
        self.assertEqual(client_limit(quotas, "producer_byte_rate", "u", "c"), Holding(5.0, "", "c"))

    def test_without_a_client_id_only_users_are_limited(self) -> None:
        quotas = {level: {"producer_byte_rate": float(place)} for place, (level, _, _) in enumerate(LEVELS)}
        self.assertEqual(client_limit(quotas, "producer_byte_rate", "u", ""), Holding(2.0, "u", ""))
        quotas = {level: limits for level, limits in quotas.items() if ("user", None) not in level}
        del quotas[entity(user="u")]
        self.assertIsNone(client_limit(quotas, "producer_byte_rate", "u", ""))


class CheckTests(SynchronousTestCase):
    def refused(self, check: Any, *args: Any) -> None:
        error = self.assertRaises(BrokerError, check, *args)
        self.assertEqual(error.code, ErrorCode.INVALID_REQUEST, args)

    def test_entities(self) -> None:
        for good in (
            *(level for level, _, _ in LEVELS),
            entity(ip=None),
            entity(ip="10.0.0.1"),
            entity(ip="::1"),
        ):
            check_entity(good)
        for bad in (
            (),
            entity(planet="x"),
            entity(user=""),
            entity(client_id="x" * 1001),
            entity(user="u", ip="10.0.0.1"),
            (("user", "u"), ("user", "u")),
            entity(ip="localhost"),
            entity(ip="10.0.0.300"),
        ):
            self.refused(check_entity, bad)

    def test_values(self) -> None:
        user, ip = entity(user="u"), entity(ip=None)
        for target, quota, value in (
            (user, "producer_byte_rate", 1.0),
            (user, "consumer_byte_rate", 2.0**62),
            (user, "request_percentage", 0.25),
            (user, "controller_mutation_rate", 0.5),
            (ip, "connection_creation_rate", 2147483647.0),
        ):
            check_value(target, quota, value)
        for target, quota, value in (
            (ip, "producer_byte_rate", 1.0),
            (user, "connection_creation_rate", 1.0),
            (user, "nonsense", 1.0),
            (user, "producer_byte_rate", 0.0),
            (user, "producer_byte_rate", -1.0),
            (user, "producer_byte_rate", 1.5),
            (user, "producer_byte_rate", 1e300),
            (user, "request_percentage", float("nan")),
            (user, "request_percentage", float("inf")),
            (ip, "connection_creation_rate", 2147483648.0),
        ):
            self.refused(check_value, target, quota, value)


class QuotasTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = task.Clock()
        self.metadata = MemoryMetadataStore(self.clock)
        self.metadata.open()
        self.quotas = self.make()

    def make(self) -> Quotas:
        made = Quotas(self.metadata, lambda: int(self.clock.seconds() * 1000))
        made.load()
        return made

    def set(self, target: QuotaEntity, **values: float | None) -> None:
        waiting = self.quotas.change([QuotaChange(target, values)])
        self.clock.advance(0)
        self.assertIsNone(self.successResultOf(waiting))

    def meter(self, client_id: str, user: str = "u") -> Any:
        return self.quotas.meter(user, client_id)

    def test_what_is_set_survives(self) -> None:
        verifyObject(IQuotas, self.quotas)
        self.assertFalse(self.quotas.limits_clients or self.quotas.limits_addresses)
        self.set(entity(user="u", client_id=None), producer_byte_rate=5.0, request_percentage=2.5)
        self.set(entity(ip="10.0.0.1"), connection_creation_rate=3.0)
        self.set(entity(user="u", client_id=None), producer_byte_rate=None, consumer_byte_rate=7.0)
        again = self.make()
        self.assertEqual(again.all(), self.quotas.all())
        self.assertEqual(
            again.all(),
            {
                entity(user="u", client_id=None): {"consumer_byte_rate": 7.0, "request_percentage": 2.5},
                entity(ip="10.0.0.1"): {"connection_creation_rate": 3.0},
            },
        )
        self.assertTrue(again.limits_clients and again.limits_addresses)
        self.set(entity(user="u", client_id=None), consumer_byte_rate=None, request_percentage=None)
        self.assertFalse(self.quotas.limits_clients)
        self.assertEqual(list(self.metadata.rows(QUOTAS_TABLE)), ['[["ip","10.0.0.1"]]'])

    def test_rows_that_are_none_are_left_alone(self) -> None:
        bad = {"no json": {}, '[["user","x"]]': {"producer_byte_rate": -1}, "5": {}, '[["user",5]]': {"x": 1}}
        waiting = self.metadata.write([Change(QUOTAS_TABLE, key, row) for key, row in bad.items()])
        self.clock.advance(0)
        self.successResultOf(waiting)
        self.assertEqual(self.make().all(), {})

    def test_all_or_nothing(self) -> None:
        good, bad = entity(user="a"), entity(user="b")
        waiting = self.quotas.change(
            [QuotaChange(good, {"producer_byte_rate": 1.0}), QuotaChange(bad, {"producer_byte_rate": -1.0})]
        )
        self.clock.advance(0)
        self.assertEqual(self.failureResultOf(waiting).value.code, ErrorCode.INVALID_REQUEST)
        self.assertEqual(self.quotas.all(), {})

    def test_changes_at_the_same_time_keep_each_others(self) -> None:
        target = entity(user="a")
        first = self.quotas.change([QuotaChange(target, {"producer_byte_rate": 1.0})])
        second = self.quotas.change([QuotaChange(target, {"consumer_byte_rate": 2.0})])
        for _ in range(3):
            self.clock.advance(0)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.quotas.all()[target], {"producer_byte_rate": 1.0, "consumer_byte_rate": 2.0})

    def test_bounded(self) -> None:
        self.patch(service, "_MAX_ENTITIES", 2)
        self.set(entity(user="a"), producer_byte_rate=1.0)
        self.set(entity(user="b"), producer_byte_rate=1.0)
        waiting = self.quotas.change([QuotaChange(entity(user="c"), {"producer_byte_rate": 1.0})])
        self.clock.advance(0)
        self.assertEqual(self.failureResultOf(waiting).value.code, ErrorCode.TOPIC_LIMIT)
        self.set(entity(user="b"), producer_byte_rate=2.0)

    def test_many_clients_do_not_fill_the_memory(self) -> None:
        self.patch(service, "_MAX_CLIENTS", 10)
        self.set(entity(client_id=None), producer_byte_rate=100.0)
        for number in range(6):
            self.meter(f"quiet-{number}")
        for number in range(4):
            self.meter(f"busy-{number}").produced(2000)
        for number in range(100):
            self.clock.advance(0.01)
            self.meter(f"new-{number}")
        self.assertLessEqual(len(self.quotas._counts), 10)
        self.assertLessEqual(len(self.quotas._meters), 10)
        self.assertGreater(self.meter("busy-0").produced(0), 0)

    def test_clients_of_one_default_have_a_count_each(self) -> None:
        self.set(entity(client_id=None), producer_byte_rate=100.0)
        verifyObject(IMeter, self.meter("a"))
        self.assertEqual(self.meter("a").produced(2000), 10_000)
        self.assertEqual(self.meter("b").produced(1000), 0)
        self.assertIsNone(self.meter(""))

    def test_clients_of_one_user_share_a_count(self) -> None:
        self.set(entity(user="u"), producer_byte_rate=100.0)
        self.assertEqual(self.meter("a").produced(1000), 0)
        self.assertEqual(self.meter("b").produced(1000), 10_000)
        self.assertIsNone(self.meter("a", user="v"))

    def test_a_change_is_in_force_at_once_and_counts_stay(self) -> None:
        self.set(entity(client_id="a"), producer_byte_rate=100.0)
        self.assertEqual(self.meter("a").produced(2000), 10_000)
        generation = self.quotas.generation
        self.set(entity(client_id="a"), producer_byte_rate=200.0)
        self.assertNotEqual(self.quotas.generation, generation)
        self.assertEqual(self.meter("a").produced(0), 0)
        self.assertEqual(self.meter("a").produced(1000), 5000)
        self.set(entity(client_id="a"), producer_byte_rate=None)
        self.assertIsNone(self.meter("a"))

    def test_what_is_not_sent_is_not_counted(self) -> None:
        self.set(entity(client_id="a"), consumer_byte_rate=100.0)
        self.assertEqual(self.meter("a").fetch_bytes, 1000)
        self.assertFalse(self.meter("a").limits_produce)
        self.assertEqual(self.meter("a").may_consume(900), 0)
        self.assertEqual(self.meter("a").may_consume(200), 1000)
        self.assertEqual(self.meter("a").may_consume(100), 0)
        self.assertEqual(self.meter("a").consumed(100), 1000)

    def test_a_batch_that_is_too_large_passes_after_silence(self) -> None:
        self.set(entity(client_id="a"), consumer_byte_rate=100.0)
        self.assertEqual(self.meter("a").may_consume(5000), 0)
        self.assertEqual(self.meter("a").may_consume(1), 40_010)
        self.clock.advance(11)
        self.assertEqual(self.meter("a").may_consume(5000), 0)

    def test_time(self) -> None:
        self.set(entity(client_id="a"), request_percentage=1.0)
        self.assertTrue(self.meter("a").limits_produce)
        self.assertEqual(self.meter("a").worked(0.1), 0)
        self.assertEqual(self.meter("a").worked(0.001), 100)
        self.assertEqual(self.meter("a").worked(5.0), 1000)

    def test_strict_mutations(self) -> None:
        self.set(entity(client_id="a"), controller_mutation_rate=1.0)
        request = self.meter("a").mutations(strict=True)
        verifyObject(IMutations, request)
        request.record(12)
        self.assertEqual(request.throttle_ms, 0)
        error = self.assertRaises(BrokerError, request.record, 1)
        self.assertEqual(error.code, ErrorCode.OVERLOADED)
        self.assertEqual(request.throttle_ms, 1000)
        self.clock.advance(0.4)
        self.assertEqual(request.throttle_ms, 600)
        self.clock.advance(0.6)
        self.meter("a").mutations(strict=True).record(1)

    def test_permissive_mutations(self) -> None:
        self.set(entity(client_id="a"), controller_mutation_rate=1.0)
        request = self.meter("a").mutations(strict=False)
        request.record(12)
        self.assertEqual(request.throttle_ms, 1000)
        request.record(1)
        self.assertEqual(request.throttle_ms, 2000)
        self.set(entity(client_id="a"), controller_mutation_rate=None, producer_byte_rate=1.0)
        self.assertIsNone(self.meter("a").mutations(strict=True))

    def test_addresses(self) -> None:
        self.set(entity(ip=None), connection_creation_rate=2.0)
        self.set(entity(ip="::ffff:10.0.0.1"), connection_creation_rate=1.0)
        for address, allowed in (("10.0.0.1", 10), ("10.0.0.2", 20), ("::1", 20)):
            waits = [self.quotas.connection_ms(address) for _ in range(allowed + 2)]
            self.assertEqual(waits[:allowed], [0] * allowed)
            self.assertEqual(waits[allowed:], [10_000 // allowed] * 2, "those refused are not counted")
        self.assertEqual(self.quotas.connection_ms("local"), 0)
        self.clock.advance(11)
        self.assertEqual(self.quotas.connection_ms("10.0.0.1"), 0)
