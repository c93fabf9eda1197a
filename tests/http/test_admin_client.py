"""``megabroker.client.admin`` against a real broker: every method, and every kind of refusal."""

from __future__ import annotations

import inspect
import socket
import subprocess
import sys
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from megabroker.client.admin import (
    AdminClient,
    AdminError,
    BadRequest,
    Conflict,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from tests.brokers import BrokerProcess
from tests.interop.hostile_server import HostileServer

_METHODS = [
    name for name, _ in inspect.getmembers(AdminClient, inspect.isfunction) if not name.startswith("_")
]


class AdminClientCase(TestCase):
    """One broker for all tests, with access rules and passwords."""

    broker: BrokerProcess
    used: set[str] = set()

    @classmethod
    def setUpClass(cls) -> None:
        security = {"authorizer": "acls", "super_users": ["User:ANONYMOUS"]}
        cls.broker = BrokerProcess({"durability": "os", "security": security})
        cls.broker.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.broker.__exit__(None, None, None)

    def client(self, **settings: Any) -> AdminClient:
        made = AdminClient(f"http://127.0.0.1:{self.broker.http_ports[0]}", **settings)
        self.addCleanup(made.close)
        return made

    async def test_everything(self) -> None:
        client = Recorded(self.client())
        assert (await client.describe_broker())["node_id"] == 1
        assert await client.is_ready()
        assert "kafka" in {one["name"] for one in await client.list_plugins()}
        assert (await client.describe_configuration())["configuration"]["durability"] == "os"
        made = await client.create_topic("orders", partitions=2, configs={"retention.ms": "1000000"})
        assert made is not None
        assert made["partitions"] == 2
        assert await client.create_topic("other", validate_only=True) is None
        assert [one["name"] for one in await client.list_topics("ord")] == ["orders"]
        assert (await client.create_partitions("orders", 3) or {})["partitions"] == 3
        assert len(await client.list_partitions("orders")) == 3
        placed = await client.produce("orders", {"n": 1}, key="k", value_encoding="json", partition=0)
        await client.produce("orders", "two", partition=0)
        found = await client.read_messages("orders", 0, value_encoding="json", wait_ms=10)
        assert [one["value"] for one in found["messages"]] == [{"n": 1}, "two"]
        assert placed["offset"] == 0
        assert (await client.describe_topic("orders"))["messages"] == 2
        assert await client.truncate("orders", 0, 1) == 1
        await client.alter_topic_configs("orders", {"retention.ms": None})
        assert not (await client.topic_configs("orders"))["retention.ms"]["is_set"]
        await self._groups(client)
        await self._security(client)
        await self._others(client)
        await client.delete_topic("orders")
        assert set(_METHODS) - {"close"} == client.used

    async def _groups(self, client: Any) -> None:
        moved = await client.reset_group_offsets("team", "latest", topics={"orders": None})
        assert [row["offset"] for row in moved] == [2, 0, 0]
        assert [one["group"] for one in await client.list_groups(state="Empty")] == ["team"]
        assert (await client.describe_group("team"))["members"] == []
        assert {row["lag"] for row in await client.list_group_offsets("team")} == {0}
        await client.alter_group_configs("team", {"consumer.session.timeout.ms": "50000"})
        assert (await client.group_configs("team"))["consumer.session.timeout.ms"]["is_set"]
        await client.delete_group_offsets("team", "orders")
        await client.reset_group_offsets("team", "earliest", topics={"orders": [0]})
        await client.delete_group("team")

    async def _security(self, client: Any) -> None:
        made = await client.set_password("bob", "builder")
        assert made == await client.describe_user("bob")
        assert [one["user"] for one in await client.list_users()] == ["bob"]
        rule = {"principal": "User:bob", "resource_type": "topic", "resource": "x", "operation": "read"}
        assert len(await client.create_acls([rule])) == 1
        assert len(await client.list_acls(principal="User:bob")) == 1
        assert await client.delete_acls(principal="User:bob") == 1
        await client.delete_user("bob")
        await client.set_quotas({"user": "bob"}, {"request_percentage": 50})
        assert len(await client.list_quotas()) == 1
        await client.set_quotas({"user": "bob"}, {})

    async def _others(self, client: Any) -> None:
        await client.alter_broker_configs({"log.retention.ms": "123456"})
        assert (await client.broker_configs())["log.retention.ms"]["value"] == "123456"
        assert await client.list_transactions() == []
        for method in (client.describe_transaction, client.abort_transaction):
            await self.assertFailure(method("nobody"), NotFound)
        other = await deferToThread(socket.create_connection, ("127.0.0.1", self.broker.ports["kafka"]))
        self.addCleanup(other.close)
        found: list[dict[str, Any]] = []
        for _ in range(100):  # the broker accepts it after or before it reads the request
            if found := await client.list_connections(protocol="kafka"):
                break
        (mine,) = found
        await client.close_connection(mine["id"])
        await client.set_log_level("warn", "megabroker.http")
        assert (await client.log_levels())["megabroker.http"] == "warn"

    async def test_refusals_have_kinds(self) -> None:
        client = self.client()
        error = await self.assertFailure(client.describe_topic("nowhere"), NotFound)
        assert (error.status, error.code, error.retriable) == (404, "unknown-topic", False)
        error = await self.assertFailure(client.create_topic("a", partitions=0), BadRequest)
        assert error.errors[0]["path"] == "/partitions"
        await client.create_topic("twice")
        await self.assertFailure(client.create_topic("twice"), Conflict)
        await self.assertFailure(client.create_topic("no/name"), BadRequest)

    async def test_who_is_nobody_and_who_may_not(self) -> None:
        security = {"authorizer": "acls", "super_users": ["User:root"]}
        with BrokerProcess({"security": security, "http": {"authentication": "none"}}) as broker:
            client = AdminClient(f"http://127.0.0.1:{broker.http_ports[0]}")
            self.addCleanup(client.close)
            await self.assertFailure(client.create_topic("x"), NotAllowed)
        with BrokerProcess({"http": {"authentication": "required"}}) as broker:
            url = f"http://127.0.0.1:{broker.http_ports[0]}"
            for settings in ({}, {"user": "a", "password": "b"}, {"token": "c"}):
                client = AdminClient(url, **settings)
                self.addCleanup(client.close)
                await self.assertFailure(client.list_topics(), NotAuthenticated)
            assert await client.is_ready()

    async def test_nobody_is_there_or_answers(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            client = AdminClient(url, timeout_seconds=0.2)
            self.addCleanup(client.close)
            error = await self.assertFailure(client.list_topics(), Unavailable)
            assert error.code == "timed-out"
            asked = client.list_topics()
            asked.cancel()
            await self.assertFailure(asked, CancelledError)
        patient = AdminClient(url)
        self.addCleanup(patient.close)
        error = await self.assertFailure(patient.list_topics(), Unavailable)
        assert error.code == "unreachable"
        assert not await patient.is_ready()

    async def test_answers_that_are_none_of_the_api(self) -> None:
        row = b'{"topics":[],"next_page_token":"YQ=="}'
        for body in (b"<html>", b"[" * 100_000, b"[]", b"null", b"{}", row):

            def behave(connection: socket.socket, body: bytes = body) -> None:
                while True:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    if not connection.recv(65536):
                        return

            with HostileServer(behave) as server:
                client = AdminClient(f"http://127.0.0.1:{server.port}", timeout_seconds=5)
                with self.assertRaises(AdminError):
                    await client.list_topics()
                await client.close()

    def test_what_does_not_go_together(self) -> None:
        for settings in ({"user": "a"}, {"password": "b"}, {"user": "a", "password": "b", "token": "c"}):
            with self.assertRaises(ValueError):
                AdminClient(**settings)


class Recorded:
    """A client that knows which of its methods were used."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self.used: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.used.add(name)
        return getattr(self._client, name)


def test_the_lack_of_treq_is_told_with_the_extra_that_brings_it() -> None:
    program = "import sys; sys.modules['treq'] = None; import megabroker.client.admin"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        "treq is not installed: expected the extra admin (pip install 'megabroker[admin]')\n"
    )
