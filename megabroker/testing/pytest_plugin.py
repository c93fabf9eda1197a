"""pytest's fixtures: a broker for the tests of other programs, started once and clean for each test.

Owns what pytest has to know. It is loaded at every start of pytest wherever megabroker is installed, and
imports nothing of the broker until a test asks for one.

*Clean.* The broker is started once in a session, in each process of pytest-xdist; before every further test
it becomes a new one at the same address, in a few milliseconds. Names of topics need no prefixes: nothing
that another test did is there, and clients of an earlier test that are still connected lose their connection.

*The log* of the broker is shown with a test that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from megabroker.testing.embedded import EmbeddedBroker
    from megabroker.testing.server import BrokerServer

    Server = BrokerServer | EmbeddedBroker

__all__ = ["megabroker_environment", "megabroker_server", "megabroker_server_factory"]

_STORAGES = ("memory", "file")
_PROCESSES = ("subprocess", "inprocess")
_LONGEST_LOG_CHARS = 20_000

_shown = pytest.StashKey[list[Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Pytest: the options, each on the command line and in the ini file."""
    group = parser.getgroup("megabroker", "a message broker for tests")
    for name, choices, what in (
        ("megabroker_storage", _STORAGES, "where the broker of megabroker_server keeps messages"),
        ("megabroker_process", _PROCESSES, "whether it has a process of its own"),
    ):
        text = f"{what}: {' or '.join(choices)} (default: {choices[0]})"
        group.addoption("--" + name.replace("_", "-"), dest=name, choices=choices, default=None, help=text)
        parser.addini(name, text, default=choices[0])


def _option(config: pytest.Config, name: str, choices: tuple[str, ...]) -> str:
    value: str = config.getoption(name) or config.getini(name)
    if value not in choices:
        raise pytest.UsageError(f"{name} = {value}: expected {' or '.join(choices)}")
    return value


def pytest_configure(config: pytest.Config) -> None:
    """Pytest: refuse what is wrong in the ini file before any test runs."""
    _option(config, "megabroker_storage", _STORAGES)
    _option(config, "megabroker_process", _PROCESSES)


class _Shared:
    """The one broker that all tests of a session share."""

    def __init__(self, make: Callable[[], Server]) -> None:
        self._make = make
        self.server: Server | None = None

    def clean(self) -> Server:
        """Return it as new."""
        if self.server is None:
            self.server = self._make()
            self.server.__enter__()
        else:
            self.server.clean()
        return self.server


@pytest.fixture(scope="session")
def megabroker_config() -> Mapping[str, Any]:
    """What the configuration of ``megabroker_server`` has besides; override it in a conftest.py."""
    return {}


@pytest.fixture(scope="session")
def _megabroker_shared(
    request: pytest.FixtureRequest, megabroker_config: Mapping[str, Any]
) -> Iterator[_Shared]:
    shared = _Shared(lambda: _server(request.config, megabroker_config))
    yield shared
    if shared.server is not None:
        shared.server.__exit__(None, None, None)


@pytest.fixture
def megabroker_server(request: pytest.FixtureRequest, _megabroker_shared: _Shared) -> Server:
    """A broker that has nothing in it: its address for Kafka clients is ``megabroker_server.bootstrap``."""
    server = _megabroker_shared.clean()
    request.node.stash.setdefault(_shown, []).append(server)
    return server


@pytest.fixture
def megabroker_server_factory(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., Server]]:
    """Start further brokers, each with a configuration of its own; they end with the test."""
    made: list[Server] = []

    def start(config: Mapping[str, Any] | None = None, **sections: Any) -> Server:
        server = _server(request.config, {**(config or {}), **sections})
        server.__enter__()
        made.append(server)
        request.node.stash.setdefault(_shown, []).append(server)
        return server

    yield start
    for server in reversed(made):
        server.__exit__(None, None, None)


def _server(options: pytest.Config, config: Mapping[str, Any]) -> Server:
    """Return a broker as the options say, not started."""
    wanted = {"storage": _option(options, "megabroker_storage", _STORAGES), **config}
    if _option(options, "megabroker_process", _PROCESSES) == "inprocess":
        from megabroker.testing.embedded import EmbeddedBroker

        return EmbeddedBroker(wanted)
    from megabroker.testing.server import BrokerServer

    return BrokerServer(wanted)


@pytest.fixture
def megabroker_environment(megabroker_server: Server, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Tell programs that look into their environment where ``megabroker_server`` is; return what was set."""
    from megabroker.testing.environment import client_environment

    variables = client_environment(megabroker_server.bootstrap)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Pytest: show what the test's brokers have logged, if it has failed."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if report.failed:
        for server in item.stash.get(_shown, []):
            text = server.log[-_LONGEST_LOG_CHARS:]
            report.sections.append((f"log of the broker at {server.bootstrap}", text))
