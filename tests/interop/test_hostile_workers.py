"""Bad input at the sockets by which workers meet: it ends there, and clients notice nothing."""

from __future__ import annotations

import contextlib
import pathlib
import random
import socket
import stat
import struct

import pytest

from megabroker.protocols.kafka.dispatch import INTERNAL
from tests.fuzz.mutation import mutated
from tests.interop.wires import Bystanders, kafka_request, receive_all
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_EACH = 200


def places(broker: WorkersProcess) -> list[pathlib.Path]:
    """Return the sockets of a broker's workers."""
    return [one for one in broker.directory.rglob("*") if stat.S_ISSOCK(one.lstat().st_mode)]


def frames(rng: random.Random) -> list[bytes]:
    """Return nonsense, random requests of every API that is served there, and whole ones that are damaged."""
    requests = [
        kafka_request(
            key, rng.randint(served.first_version, served.last_version), rng.randbytes(rng.randrange(200))
        )
        for key, served in INTERNAL.items()
    ]
    found = [rng.randbytes(rng.randrange(1, 3000)) for _ in range(_EACH // 4)]
    found += [struct.pack(">i", 2**31 - 1) + b"abc", struct.pack(">i", -1), struct.pack(">i", 3) + b"abc"]
    found += [mutated(rng.choice(requests), requests, rng) for _ in range(_EACH)]
    return found + requests


def test_nonsense_at_the_sockets_of_the_workers() -> None:
    rng = random.Random(11)
    with WorkersProcess(2) as broker, Bystanders(broker.ports) as bystanders:
        found = places(broker)
        assert len(found) == 2, found
        for place in found:
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
            for data in frames(rng):
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(0.05)
                    connection.connect(str(place))
                    with contextlib.suppress(ConnectionError, TimeoutError):
                        connection.sendall(data)
                        connection.shutdown(socket.SHUT_WR)
                        receive_all(connection)
        assert not bystanders.faults, bystanders.faults
        assert "Traceback" not in broker.log, broker.log[broker.log.index("Traceback") - 500 :][:3000]
        assert "internal error" not in broker.log
