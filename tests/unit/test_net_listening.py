"""Sockets that listen for other processes: each its port, or one for all."""

from __future__ import annotations

import os
import pathlib
import socket
import stat
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from megabroker.errors import StateError
from megabroker.model import HostPort
from megabroker.net.listening import Inherited, advertised, bind_each, bind_file, bind_shared

reactor: Any = global_reactor


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def test_shared_sockets_have_one_port_and_each_gets_connections() -> None:
    shared = bind_shared("tcp:0:interface=127.0.0.1", 3)
    [port] = {one.getsockname()[1] for one in shared}
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    taken = []
    for one in shared:
        count = 0
        while True:
            try:
                one.accept()[0].close()
            except BlockingIOError:
                break
            count += 1
        taken.append(count)
    assert sum(taken) == 60
    assert all(taken), taken
    close([*shared, *clients])


@pytest.mark.parametrize("count", [1, 2])
def test_a_port_that_others_share_is_not_joined(count: int) -> None:
    shared = bind_shared("tcp:0:interface=127.0.0.1", count)
    endpoint = f"tcp:{shared[0].getsockname()[1]}:interface=127.0.0.1"
    with pytest.raises(StateError, match=f"endpoint {endpoint}: .*in use"):
        bind_shared(endpoint, 2)
    with pytest.raises(StateError, match="in use"):
        bind_each([endpoint])
    close(shared)
    close(bind_shared(endpoint, 2))


def test_each_has_its_own_port_and_ipv6_is_there() -> None:
    each = bind_each(["tcp:0:interface=127.0.0.1", "tcp:0:interface=\\:\\:1"])
    families = [one.family for one in each]
    assert families == [socket.AF_INET, socket.AF_INET6]
    assert len({one.getsockname()[1] for one in each}) == 2
    close(each)
    with pytest.raises(StateError, match=r"Couldn't listen on 192\.0\.2\.1:1"):
        bind_each(["tcp:1:interface=192.0.2.1"])


def test_a_file_is_for_this_user_alone(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "1.sock")
    bound = bind_file(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(StateError, match="Couldn't listen on"):
        bind_file(path)
    bound.close()


def test_clients_are_told_what_is_configured_else_what_was_bound() -> None:
    assert advertised(None, None, ("127.0.0.1", 5)) == HostPort("127.0.0.1", 5)
    assert advertised("broker", 7, ("127.0.0.1", 5)) == HostPort("broker", 7)
    assert advertised(None, None, ("0.0.0.0", 5)) == HostPort(os.uname().nodename, 5)


class InheritedTests(TestCase):
    async def test_a_socket_listens_no_longer_than_it_is_served(self) -> None:
        [bound] = bind_each(["tcp:0:interface=127.0.0.1"])
        address = bound.getsockname()
        listening = Inherited(reactor, reactor, os.dup(bound.fileno())).listenTCP(0, Factory())
        bound.close()
        socket.create_connection(address).close()
        await maybeDeferred(listening.stopListening)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
