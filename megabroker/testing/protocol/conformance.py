"""What a plugin promises by its interfaces: its descriptor, its imports, its end, and what it leaves."""

from __future__ import annotations

import ast
import gc
import importlib.util
import pathlib
import re
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

from twisted.internet.interfaces import IProtocolFactory
from zope.interface.verify import verifyObject

from megabroker.config.endpoint import parse_endpoint
from megabroker.config.protocol import ProtocolSettings
from megabroker.config.structure import keys, structure
from megabroker.errors import Fault
from megabroker.interfaces import IManagedFactory, IProtocolPlugin
from megabroker.plugin import PUBLIC_MODULES, ProtocolPlugin, misfit
from megabroker.testing.memory_broker import MemoryBroker
from megabroker.testing.memory_network import Peer
from megabroker.testing.protocol.conversation import TOPIC, Wire, join, requested, serving

__all__ = [
    "check_closed_connections_free_all",
    "check_descriptor",
    "check_imports",
    "check_stop_drains",
]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_IMPORT_SECONDS: Final = 60
_WITH_MODULES: Final = ("megabroker.plugins", "megabroker.testing")
"""Packages that plugins may import with the modules in them; of the others only what the package names."""


def check_descriptor(plugin: IProtocolPlugin) -> None:
    """Hold a descriptor, its settings class and its factory against their interfaces.

    Raises:
        AssertionError: or one of zope.interface's errors, says what is wrong.
    """
    verifyObject(IProtocolPlugin, plugin)
    _expect(bool(_NAME.fullmatch(plugin.name)), f"the name {plugin.name!r}: expected {_NAME.pattern}")
    reason = misfit(plugin.version)
    _expect(reason is None, f"{plugin.name} {reason}")
    parse_endpoint(plugin.default_endpoint)
    settings = plugin.settings_class()
    _expect(
        issubclass(settings, ProtocolSettings),
        f"{settings.__name__}: expected a subclass of ProtocolSettings",
    )
    faults: list[Fault] = []
    structure(settings, {}, plugin.name, faults)
    _expect(not faults, f"{settings.__name__} without any key in the file: {faults}")
    silent = [key.path for key in keys(settings) if not key.spec.doc]
    _expect(not silent, f"keys without documentation: {silent}")
    with MemoryBroker([plugin]) as broker:
        (listener,) = broker.service.placement.me.listeners
        factory = plugin.factory(broker.broker, broker.service.config.protocols[plugin.name], listener)
        verifyObject(IProtocolFactory, factory)
        if IManagedFactory.providedBy(factory):
            verifyObject(IManagedFactory, factory)
            broker.done(factory.drain(1.0))
    if isinstance(plugin, ProtocolPlugin):
        _expect_light(plugin)


def _expect_light(plugin: ProtocolPlugin) -> None:
    """The descriptor is imported at every start, whether its protocol is used or not."""
    package = plugin.factory_name.partition(".")[0]
    if package == "megabroker":
        package = plugin.factory_name.rpartition(".")[0]
    code = (
        "import sys\n"
        "from megabroker.plugin import discover\n"
        f"found = discover()\nassert {plugin.name!r} in found, sorted(found)\n"
        f"print([name for name in sys.modules if name == {package!r} or name.startswith({package + '.'!r})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=_IMPORT_SECONDS,
        env=None,
        check=False,
    )
    _expect(
        done.returncode == 0, f"{plugin.name} is not found in a new process: {done.stderr.strip()[-500:]}"
    )
    imported = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    _expect(
        not imported, f"the descriptor of {plugin.name} imports {imported}, at every start of every broker"
    )


def check_imports(*packages: str) -> None:
    """Hold what a plugin's packages import of megabroker against what a plugin may import.

    Args:
        packages: names of packages or modules; those within them are looked at too.

    Raises:
        AssertionError: something is imported that may change at any time; says where.
    """
    found = []
    within = tuple(f"{one}." for one in (*_WITH_MODULES, *packages))
    for package in packages:
        for path in _sources(package):
            for line, module in _imports(path):
                if module not in PUBLIC_MODULES and not f"{module}.".startswith(within):
                    found.append(f"{path}, line {line}: {module}")
    _expect(
        not found,
        "imported, but not part of the interface for plugins (megabroker.plugin.PUBLIC_MODULES): "
        + "; ".join(found),
    )


def _sources(package: str) -> Iterator[pathlib.Path]:
    spec = importlib.util.find_spec(package)
    _expect(spec is not None, f"there is no module {package}")
    assert spec is not None
    if spec.submodule_search_locations is None:
        assert spec.origin is not None
        yield pathlib.Path(spec.origin)
        return
    for place in spec.submodule_search_locations:
        yield from sorted(pathlib.Path(place).rglob("*.py"))


def _imports(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif not node.level and node.module:
            # ``from megabroker import errors`` imports a module by its package.
            deep = node.module in ("megabroker", "megabroker.codec", "megabroker.config", "megabroker.net")
            names = [f"{node.module}.{alias.name}" for alias in node.names] if deep else [node.module]
        for name in names:
            if name.partition(".")[0] == "megabroker":
                yield node.lineno, name


def check_stop_drains(wire: Wire) -> None:
    """Stop the broker while a message is being stored: it is answered first, then the connection is closed.

    Needs ``Wire.store``.
    """
    store: Callable[[bytes], bytes] = requested(wire, "store")
    with serving(wire) as broker:
        peer, idle = join(broker, wire), join(broker, wire)
        broker.disk.hold()
        peer.send(store(b"in flight"))
        early = peer.take()
        _expect(not early, f"a message is answered before it is stored, with {early!r}")
        stopping = broker.begin_stop()
        fired: list[Any] = []
        stopping.addBoth(fired.append)
        broker.settle()
        _expect(not broker.reactor.ports, "the broker stops, and still listens")
        _expect(idle.is_closed, "an idle connection stays open while the broker stops: inherit BrokerFactory")
        _expect(not peer.is_closed, "a connection is closed although a message of it is being stored")
        broker.disk.release()
        broker.settle()
        answer = peer.take()
        _expect(bool(answer), "a message that was being stored when the broker stopped is never answered")
        _expect(peer.is_closed, "the connection stays open although all is answered and the broker stops")
        _expect(bool(fired), "the broker does not stop although all connections are closed")
        left = broker.reactor.getDelayedCalls()
        _expect(not left, f"these delayed calls outlive the broker: {left}")
        _expect(not broker.failures, f"a failure was logged: {broker.failures}")


def check_closed_connections_free_all(wire: Wire) -> None:
    """Close connections in every state: nothing refers to them, nothing is counted, nothing is planned.

    Uses ``Wire.store``, ``Wire.read`` and ``Wire.partial`` where they are given.
    """
    with serving(wire) as broker:
        for number in range(3):
            broker.append(TOPIC, [b"value %d" % number])
        for what, data in _states(wire):
            for end in (Peer.close, Peer.reset):
                broker.disk.hold()
                _expect_freed(broker, wire, data, end, what)
        _expect(not broker.failures, f"a failure was logged: {broker.failures}")


def _states(wire: Wire) -> Iterator[tuple[str, bytes]]:
    yield "after its opening", b""
    yield "after the conversation", b"".join(wire.conversation)
    if wire.partial is not None:
        yield "in the middle of a request", wire.partial
    if wire.store is not None:
        yield "with a message being stored", wire.store(b"value")
    if wire.read is not None:
        yield "while it reads", wire.read(0)


def _expect_freed(
    broker: MemoryBroker, wire: Wire, data: bytes, end: Callable[[Peer], None], what: str
) -> None:
    peer = join(broker, wire)
    if peer.transport.protocol is None:
        raise AssertionError(f"a new connection is closed at once: {wire.plugin.name}")
    connection = weakref.ref(peer.transport.protocol)
    peer.send(data)
    end(peer)
    broker.disk.release()
    broker.settle()
    _expect(peer.is_closed, f"a connection whose client has closed it {what} stays open")
    gc.collect()
    found = connection()
    how = "closed" if end is Peer.close else "lost"
    if found is not None:
        referrers = [type(one).__name__ for one in gc.get_referrers(found)]
        raise AssertionError(
            f"a connection that was {how} {what} is still referred to, by {sorted(set(referrers))}: end "
            "watches, timers and waiting callbacks in connection_closed"
        )
    admission = broker.broker.admission
    counts = (admission.connections, admission.charged_bytes, admission.reserved_bytes)
    _expect(
        counts == (0, 0, 0),
        f"after a connection was {how} {what}, {counts} connections, bytes charged and bytes reserved are "
        "still counted",
    )


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
