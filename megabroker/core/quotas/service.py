"""The quotas that are set, and the counts of those whom they limit.

Owns the metadata table ``client_quotas``: key is the entity as a JSON array of pairs of kind and name, value
an object of numbers by Kafka's names of the quotas. Counts are kept in memory only, as in Apache Kafka: they
look eleven seconds back.

Invariant: what is told is stored and in force. Everyone whom one quota limits together shares one count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.core.quotas.meter import Balance, Limited, Meter
from megabroker.core.quotas.rates import SAMPLE_MS, Rate, TokenBucket
from megabroker.core.quotas.table import (
    CONNECTIONS,
    CONSUMED,
    IP,
    MUTATIONS,
    PRODUCED,
    WORK,
    Holding,
    address_limits,
    check_entity,
    check_value,
    client_limit,
    plain_address,
)
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.interfaces import IMetadataStore, IQuotas
from megabroker.model import Change, QuotaChange, QuotaEntity

__all__ = ["QUOTAS_TABLE", "Quotas", "quota_row"]

QUOTAS_TABLE = "client_quotas"
_MAX_ENTITIES: Final = 10_000
_MAX_CLIENTS: Final = 10_000

_log = Logger()

_CountT = TypeVar("_CountT", Rate, TokenBucket)


def quota_row(entity: QuotaEntity, values: Mapping[str, float]) -> Change:
    """Return the row that keeps the quotas of an entity, or removes them if there are none."""
    return Change(QUOTAS_TABLE, json.dumps(entity, separators=(",", ":")), dict(values) or None)


@implementer(IQuotas)
class Quotas:
    """See ``IQuotas``.

    Args:
        now_ms: the time in milliseconds.
    """

    def __init__(self, metadata: IMetadataStore, now_ms: Callable[[], int]) -> None:
        self._metadata = metadata
        self._now_ms = now_ms
        self._changing = DeferredLock()
        self._set: dict[QuotaEntity, dict[str, float]] = {}
        self._addresses: dict[str | None, float] = {}
        self._meters: dict[tuple[str, str], Meter | None] = {}
        self._counts: dict[tuple[str, str, str], Rate | TokenBucket] = {}
        self.limits_clients = False
        self.limits_addresses = False
        self.generation = 0

    def load(self) -> None:
        """Read what is stored. Blocking; call first. A row that is none is logged and left alone."""
        found: dict[QuotaEntity, dict[str, float]] = {}
        for key, row in self._metadata.rows(QUOTAS_TABLE).items():
            try:
                entity = tuple((kind, name) for kind, name in json.loads(key))
                values = {str(quota): float(value) for quota, value in row.items()}
                check_entity(entity)
                for quota, value in values.items():
                    check_value(entity, quota, value)
            except (BrokerError, ValueError, TypeError, AttributeError) as error:
                _log.error("unreadable quotas {key!r}: {error}", key=key, error=str(error))
                continue
            found[entity] = values
        self._set = found
        self._follow()

    # --- administration ---------------------------------------------------------------------------

    def all(self) -> Mapping[QuotaEntity, Mapping[str, float]]:
        """See ``IQuotas.all``."""
        return self._set

    def check(self, change: QuotaChange) -> None:
        """See ``IQuotas.check``."""
        check_entity(change.entity)
        for quota, value in change.values.items():
            if value is not None:
                check_value(change.entity, quota, value)

    def change(self, changes: Sequence[QuotaChange]) -> Deferred[None]:
        """See ``IQuotas.change``."""
        # One after the other: each begins with what the one before it has left.
        return self._changing.run(lambda: Deferred.fromCoroutine(self._change(list(changes))))

    async def _change(self, changes: list[QuotaChange]) -> None:
        after: dict[QuotaEntity, dict[str, float]] = {}
        for change in changes:
            self.check(change)
            values = after.setdefault(change.entity, dict(self._set.get(change.entity, {})))
            for quota, value in change.values.items():
                if value is None:
                    values.pop(quota, None)
                else:
                    values[quota] = value
        new = {entity: values for entity, values in after.items() if values != self._set.get(entity, {})}
        if not new:
            return
        grows = sum(entity not in self._set for entity in new)
        if grows and len(self._set) + grows > _MAX_ENTITIES:
            raise StateError(ErrorCode.TOPIC_LIMIT, f"quotas for at most {_MAX_ENTITIES} entities are kept")
        await self._metadata.write([quota_row(entity, values) for entity, values in new.items()])
        for entity, values in new.items():
            if values:
                self._set[entity] = values
            else:
                self._set.pop(entity, None)
        self._follow()

    def _follow(self) -> None:
        """Put in force what is set. Counts stay: whoever used much before a change has still done so."""
        self.renew()
        self._addresses = address_limits(self._set)
        self.limits_addresses = bool(self._addresses)
        self.limits_clients = any(entity[0][0] != IP for entity in self._set)
        self._meters.clear()

    def renew(self) -> None:
        """See ``IQuotas.renew``."""
        self.generation += 1

    # --- in force ---------------------------------------------------------------------------------

    def meter(self, user: str, client_id: str) -> Meter | None:
        """See ``IQuotas.meter``."""
        try:
            return self._meters[user, client_id]
        except KeyError:
            made = self._make_meter(user, client_id)
            if len(self._meters) >= _MAX_CLIENTS:
                self._meters.clear()
            self._meters[user, client_id] = made
            return made

    def connection_ms(self, address: str) -> int:
        """See ``IQuotas.connection_ms``."""
        try:
            address = plain_address(address)
        except ValueError:
            return 0  # not an IP socket
        limit = self._addresses.get(address, self._addresses.get(None))
        if limit is None:
            return 0
        now_ms = self._now_ms()
        rate = self._count(Rate, CONNECTIONS, Holding(limit, "", address))
        rate.record(1, now_ms)
        throttle_ms = rate.throttle_ms(limit, now_ms)
        if throttle_ms:
            rate.record(-1, now_ms)
        return min(throttle_ms, SAMPLE_MS)

    def _make_meter(self, user: str, client_id: str) -> Meter | None:
        limited: dict[str, Any] = {}
        for quota in (PRODUCED, CONSUMED, WORK, MUTATIONS):
            holding = client_limit(self._set, quota, user, client_id)
            if holding is None:
                limited[quota] = None
            elif quota == MUTATIONS:
                limited[quota] = Balance(holding.limit, self._count(TokenBucket, quota, holding))
            else:
                limited[quota] = Limited(holding.limit, self._count(Rate, quota, holding))
        if not any(limited.values()):
            return None
        return Meter(self._now_ms, *limited.values())

    def _count(self, kind: type[_CountT], quota: str, holding: Holding) -> _CountT:
        key = (quota, holding.user, holding.client_id)
        found = self._counts.get(key)
        if found is None:
            if len(self._counts) >= _MAX_CLIENTS:
                self._forget()
            found = self._counts[key] = kind()
        assert isinstance(found, kind)
        return found

    def _forget(self) -> None:
        """Drop the counts that say nothing any more; all, if so many clients are at work at once."""
        now_ms = self._now_ms()
        self._counts = {key: count for key, count in self._counts.items() if not count.is_idle(now_ms)}
        if len(self._counts) > _MAX_CLIENTS // 2:
            _log.warn("more than {limit} clients with quotas: counting anew", limit=_MAX_CLIENTS // 2)
            self._counts.clear()
        self._meters.clear()
