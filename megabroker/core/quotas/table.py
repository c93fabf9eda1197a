"""Which quotas can be set for whom, and which of those that are set holds for a client.

Pure functions over what is set: by entity, a number by Kafka's name of the quota. An entity is a tuple of
pairs of kind and name, sorted by kind; the name None means the default, that is everyone of this kind for
whom there is nothing more special.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from megabroker.errors import ErrorCode, RequestError
from megabroker.model import QuotaEntity

__all__ = [
    "CLIENT_ID",
    "CONNECTIONS",
    "CONSUMED",
    "IP",
    "MUTATIONS",
    "PRODUCED",
    "USER",
    "WORK",
    "Holding",
    "address_limits",
    "check_entity",
    "check_value",
    "client_limit",
    "plain_address",
]

USER, CLIENT_ID, IP = "user", "client-id", "ip"

PRODUCED: Final = "producer_byte_rate"
CONSUMED: Final = "consumer_byte_rate"
WORK: Final = "request_percentage"
MUTATIONS: Final = "controller_mutation_rate"
CONNECTIONS: Final = "connection_creation_rate"

_LONGEST_NAME: Final = 1000
_LARGEST: Final[Mapping[str, int | None]] = MappingProxyType(
    {PRODUCED: 2**63 - 1, CONSUMED: 2**63 - 1, WORK: None, MUTATIONS: None, CONNECTIONS: 2**31 - 1}
)
"""By quota: the largest number of those that must be whole, None for those that need not be."""

_OF_CLIENTS: Final = frozenset({PRODUCED, CONSUMED, WORK, MUTATIONS})
_OF_ADDRESSES: Final = frozenset({CONNECTIONS})
_FRACTION: Final = 1e-6

_Set = Mapping[QuotaEntity, Mapping[str, float]]


class Holding(NamedTuple):
    """A quota that holds for a client.

    Attributes:
        limit: the number, of whatever is counted, a second.
        user: with ``client_id``, who shares it: everyone of this user, of this client id, or of both; ""
            where it makes no difference.
    """

    limit: float
    user: str
    client_id: str


def client_limit(quotas: _Set, quota: str, user: str, client_id: str) -> Holding | None:
    """Return what holds of one quota: the first in Kafka's order of eight levels that is set, or None.

    Who has no client id is limited as a user only.
    """
    both = ((client_id, client_id), (None, client_id)) if client_id else ()
    for name in (user, None):
        for client_name, _ in both:
            found = quotas.get(((CLIENT_ID, client_name), (USER, name)), {}).get(quota)
            if found is not None:
                return Holding(found, user, client_id)
        found = quotas.get(((USER, name),), {}).get(quota)
        if found is not None:
            return Holding(found, user, "")
    for client_name, _ in both:
        found = quotas.get(((CLIENT_ID, client_name),), {}).get(quota)
        if found is not None:
            return Holding(found, "", client_id)
    return None


def address_limits(quotas: _Set) -> dict[str | None, float]:
    """Return how many connections a second addresses may make, by ``plain_address``; None for all others."""
    return {
        None if entity[0][1] is None else plain_address(entity[0][1]): limits[CONNECTIONS]
        for entity, limits in quotas.items()
        if entity[0][0] == IP and CONNECTIONS in limits
    }


def plain_address(text: str) -> str:
    """Return an IP address as it is always written; one of IPv4 within IPv6 as IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def check_entity(entity: QuotaEntity) -> None:
    """Raise RequestError(INVALID_REQUEST) unless quotas can be set for it."""
    kinds = [kind for kind, _ in entity]
    if not kinds:
        raise _invalid("expected at least one of user, client-id and ip")
    for kind, name in entity:
        if kind not in (USER, CLIENT_ID, IP):
            raise _invalid(f"there are no quotas for {kind[:100]!r}")
        if name is not None and not 0 < len(name) <= _LONGEST_NAME:
            raise _invalid(f"expected a name of 1 to {_LONGEST_NAME} characters for {kind}, or none")
    if len(set(kinds)) < len(kinds) or (IP in kinds and len(kinds) > 1):
        raise _invalid("expected user, client-id, both, or ip alone")
    if kinds == [IP] and (address := entity[0][1]) is not None:
        try:
            plain_address(address)
        except ValueError:
            raise _invalid(f"{address[:100]!r} is no IP address") from None


def check_value(entity: QuotaEntity, quota: str, value: float) -> None:
    """Raise RequestError(INVALID_REQUEST) unless a quota can have this value for this entity."""
    known = _OF_ADDRESSES if entity[0][0] == IP else _OF_CLIENTS
    name = quota[:100]
    if quota not in known:
        raise _invalid(f"{name!r} is no quota: expected one of {', '.join(sorted(known))}")
    if not (value > 0 and math.isfinite(value)):
        raise _invalid(f"{name}: expected a number above 0")
    largest = _LARGEST[quota]
    if largest is not None and (value > largest or value % 1 > _FRACTION):
        raise _invalid(f"{name}: expected a whole number up to {largest}")


def _invalid(what: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_REQUEST, what)
