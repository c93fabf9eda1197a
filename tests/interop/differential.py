"""The same requests sent to this broker and to Apache Kafka, and their answers compared.

A case is a generator: it yields requests and is given the answers, so that a later request can use what an
earlier one was told. Compared are the answers as plain values, without what two brokers cannot agree on: ids,
addresses, sentences of errors, and the order of lists whose order says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

from tests.interop.plain_client import SILENCE, PlainClient, Values

__all__ = ["Case", "Exchange", "Request", "begin", "create", "differences", "play", "repeat"]

_ANYTHING = "(any)"
_RETRIABLE = {5, 6, 14, 15, 16, 51}
"""Leader, coordinator and its log not ready yet, transaction not ended yet: Kafka's, just after a start."""
_UNKNOWN_SERVER_ERROR = -1
_RETRY_SECONDS = 20
_LEFT_OUT = {
    "throttle_time_ms",
    "error_message",
    "batch_index_error_message",
    "documentation",
}
_NAMES_OF_ONES_OWN = {
    "cluster_id",
    "controller_id",
    "topic_id",
    "member_id",
    "leader",
    "host",
    "port",
    "producer_id",
    "log_dir",
    "total_bytes",
    "usable_bytes",
    "offset_lag",
    "node_endpoints",
    "endpoints",
}


class Request(NamedTuple):
    """What a case asks.

    Attributes:
        compare: whether the answer is compared; it is not when the request only prepares another.
        ignore: names of fields that are not compared.
        apart: why this broker's answer is another on purpose, if it is; then nothing is compared.
    """

    name: str
    version: int
    values: Values
    compare: bool = True
    ignore: Iterable[str] = ()
    apart: str = ""


Case = Generator[Request, Values, None]


class Exchange(NamedTuple):
    """A request and its answer, fit for comparison."""

    request: Request
    answer: Any


def create(topic: str, partitions: int = 1, **configs: str) -> Case:
    """Create a topic and wait until its leaders are known."""
    wanted = {
        "name": topic,
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()],
    }
    answer = yield Request("CreateTopics", 7, {"topics": [wanted]}, compare=False)
    assert answer["topics"][0]["error_code"] == 0, answer
    yield from repeat(
        Request("Metadata", 12, {"topics": [{"name": topic}]}, compare=False),
        lambda found: (
            len([one for one in found["topics"][0]["partitions"] if not one["error_code"]]) == partitions
        ),
    )


def begin() -> Case:
    """Wait until there are coordinators of groups and of transactions; Kafka makes them when asked."""
    for kind in (0, 1):
        yield Request("FindCoordinator", 2, {"key": "begin", "key_type": kind}, compare=False)
    empty = {"group_id": "begin", "member_id": "m", "member_epoch": -1}
    yield Request("ConsumerGroupHeartbeat", 1, empty, compare=False)
    values = {"transactional_id": "begin", "transaction_timeout_ms": 60_000}
    yield Request("InitProducerId", 4, values, compare=False)


def repeat(request: Request, until: Callable[[Values], bool]) -> Case:
    """Ask until the answer is as it should be."""
    deadline = time.monotonic() + _RETRY_SECONDS
    while not until((yield request)):
        assert time.monotonic() < deadline, request
        time.sleep(0.05)


def play(case: Callable[[], Case], bootstrap: str) -> list[Exchange]:
    """Carry out a case and return what is to be compared."""
    exchanges = []
    running = case()
    with PlainClient(bootstrap) as client:
        request = next(running, None)
        while request is not None:
            answer = _patiently(client, request)
            if request.compare and not request.apart:
                exchanges.append(Exchange(request, _comparable(answer, set(request.ignore))))
            try:
                request = running.send(answer)
            except StopIteration:
                request = None
    return exchanges


def differences(theirs: list[Exchange], ours: list[Exchange]) -> Iterator[str]:
    """Yield a line for each answer that differs: the request, Kafka's answer and ours.

    Where Kafka gives no answer, or says that it does not know what went wrong, there is nothing to follow.
    """
    for expected, found in zip(theirs, ours, strict=False):
        lost = expected.answer == SILENCE or _UNKNOWN_SERVER_ERROR in _codes(expected.answer)
        if expected.answer != found.answer and not lost:
            name, version, values, *_ = expected.request
            where = "; ".join(_apart(expected.answer, found.answer))
            yield f"{name} {version} {values}: {where}"
    if len(theirs) != len(ours):
        yield f"{len(theirs)} answers against {len(ours)}"


def _patiently(client: PlainClient, request: Request) -> Values:
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        answer = client.ask(request.name, request.version, request.values)
        if not _RETRIABLE & set(_codes(answer)) or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)


def _codes(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        for name, one in value.items():
            if name.endswith("error_code"):
                yield one
            else:
                yield from _codes(one)
    elif isinstance(value, list):
        for one in value:
            yield from _codes(one)


def _comparable(value: Any, ignore: set[str]) -> Any:
    if isinstance(value, dict):
        return {
            name: _ANYTHING if name in _NAMES_OF_ONES_OWN and _is_given(one) else _comparable(one, ignore)
            for name, one in value.items()
            if name not in _LEFT_OUT and name not in ignore
        }
    if isinstance(value, list):
        return sorted((_comparable(one, ignore) for one in value), key=repr)
    return value


def _is_given(value: Any) -> bool:
    """Whether a value of one's own is there at all: that must agree."""
    return value not in (None, "", -1, bytes(16), [])


def _apart(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Yield where two answers differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in theirs.keys() | ours.keys():
            if theirs.get(name) != ours.get(name):
                yield from _apart(theirs.get(name), ours.get(name), f"{path}.{name}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            if one != other:
                yield from _apart(one, other, f"{path}[{index}]")
    elif isinstance(theirs, list) and isinstance(ours, list):
        missing, more = list(theirs), list(ours)
        for one in theirs:
            if one in more:
                more.remove(one)
                missing.remove(one)
        yield f"{path.lstrip('.')}: only Kafka {missing!r}, only here {more!r}"
    else:
        yield f"{path.lstrip('.')}: Kafka {theirs!r}, here {ours!r}"
