"""Injected errors: whatever is asked for, the answer has the error, at every version."""

from __future__ import annotations

from typing import Any

import pytest

from megabroker.protocols.kafka.dispatch import SERVED
from megabroker.protocols.kafka.schema.fields import Struct
from megabroker.protocols.kafka.schema.registry import APIS
from megabroker.testing.faults import Fault
from megabroker.testing.faulty_kafka import kafka_faults, refusal

CODE = 42


def filled(kind: type[Struct]) -> Any:
    """Return a struct with one element in each of its arrays."""
    made: Any = kind()
    for field in kind.__schema__.fields:
        if field.item is not None:
            inner = field.item.struct
            value = (
                [filled(inner)]
                if inner is not None
                else [{"string": "a", "uuid": bytes(16)}.get(field.item.name, 1)]
            )
            setattr(made, field.name, value)
    return made


def codes(value: Any) -> set[int]:
    """Return every error code in an answer."""
    found = set()
    if isinstance(value, Struct):
        for field in type(value).__schema__.fields:
            inner = getattr(value, field.name)
            if field.name.endswith("error_code"):
                found.add(inner)
            found |= codes(inner)
    elif isinstance(value, list):
        for one in value:
            found |= codes(one)
    return found


@pytest.mark.parametrize("key", sorted(SERVED))
def test_every_answer_can_have_an_error(key: int) -> None:
    api = APIS[key]
    answer = refusal(key, filled(api.request), CODE)
    assert codes(answer) == {CODE}
    served = SERVED[key]
    for version in range(served.api.first_version, served.last_version + 1):
        answer.encode(version)


def test_which_fault_happens() -> None:
    faults = kafka_faults()
    assert not faults
    faults.add(Fault(api="Produce", drop="before", times=1, skip=1))
    faults.add(Fault(api=0, delay_ms=5, client_id="slow"))
    faults.add(Fault(error="NOT_CONTROLLER"))
    assert faults.next(0, "slow") == Fault(api=0, delay_ms=5, client_id="slow")
    assert faults.next(0, "other") == Fault(api="Produce", drop="before", times=1, skip=1)
    assert faults.next(0, "other") == Fault(error="NOT_CONTROLLER")
    assert faults.met() == [1, 1, 1]
    faults.clear()
    assert faults.next(0, "slow") is None


def test_chance_is_decided_by_the_seed() -> None:
    def luck(seed: int) -> list[bool]:
        faults = kafka_faults()
        faults.add(Fault(delay_ms=1, probability=0.3), seed)
        return [faults.next(1, "") is not None for _ in range(200)]

    assert luck(1) == luck(1) != luck(2)
    assert 30 < sum(luck(1)) < 90
