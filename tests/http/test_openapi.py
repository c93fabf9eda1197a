"""The server does what its own description says, and no more: fuzzed by it, answers checked against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate
from schemathesis.specs.openapi import checks

from megabroker.http.api import all_routes
from tests.brokers import BrokerProcess
from tests.http.asking import Api

_THERE = {"topic": "fuzzed", "partition": 0, "group": "fuzzed", "user": "fuzzed", "logger": "megabroker"}
_ROUTES = [f"{route.method} {route.path}" for route in all_routes() if not route.hidden]
_EXAMPLES = 8


@pytest.fixture(scope="module")
def own_broker() -> Iterator[BrokerProcess]:
    # Rules that a fuzzer makes must not lock it out.
    rules = {"authorizer": "acls", "super_users": ["User:ANONYMOUS"]}
    topics = {"max_partitions": 100, "default_partitions": 2}
    with BrokerProcess({"durability": "os", "security": rules, "topics": topics}) as started:
        yield started
        assert started.stop() == 0
        assert "Traceback" not in started.log, started.log[-5000:]


@pytest.fixture(scope="module")
def described(own_broker: BrokerProcess) -> dict[str, Any]:
    found: dict[str, Any] = Api(own_broker.http_ports[0]).get("/v1/openapi.json")
    return found


def test_it_is_a_valid_description_of_every_route(described: dict[str, Any]) -> None:
    validate(described)
    told = [f"{method.upper()} {path}" for path, row in described["paths"].items() for method in row]
    assert sorted(told) == sorted(_ROUTES)
    ids = [row["operationId"] for path in described["paths"].values() for row in path.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", _ROUTES)
def test_answers_are_as_described(own_broker: BrokerProcess, described: dict[str, Any], name: str) -> None:
    """No address, parameter or body brings a failure, or an answer that is not described."""
    url = f"http://127.0.0.1:{own_broker.http_ports[0]}"
    method, path = name.split()
    operation = schemathesis.openapi.from_dict(described)[path][method]
    prepare(Api(own_broker.http_ports[0]))

    @given(case=operation.as_strategy(), exists=...)
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def conforms(case: Any, exists: bool) -> None:
        if exists:
            case.path_parameters.update(
                {name: value for name, value in _THERE.items() if name in case.path_parameters}
            )
        # What is refused for what it means cannot be told from a schema alone.
        excluded = [checks.positive_data_acceptance]
        case.call_and_validate(base_url=url, excluded_checks=excluded, timeout=60)

    conforms()


def prepare(api: Api) -> None:
    """Have what addresses name be there."""
    api.ask("DELETE", "/v1/acls?all=true")
    if api.ask("GET", "/v1/topics/fuzzed").status == 404:
        api.post("/v1/topics", {"name": "fuzzed", "partitions": 2})
        for number in range(5):
            api.post("/v1/topics/fuzzed/messages", {"key": "k", "value": str(number), "partition": 0})
    api.post("/v1/groups/fuzzed/offsets/reset", {"to": "earliest", "topics": [{"topic": "fuzzed"}]})
    api.put("/v1/users/fuzzed", {"password": "secret"})


@pytest.mark.parametrize("name", _ROUTES)
def test_no_other_method_is_taken(own_broker: BrokerProcess, name: str) -> None:
    api = Api(own_broker.http_ports[0])
    path = name.split()[1].format(**_THERE, transactional_id="t", connection="c")
    known = {one.split()[0] for one in _ROUTES if one.split()[1] == name.split()[1]}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "NONSENSE"} - known:
        reply = api.ask(method, path)
        assert reply.status == 405, (method, path)
        assert set(reply.headers["Allow"].split(", ")) >= known
