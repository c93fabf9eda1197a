"""What a client has authenticated for costs nothing on the way of its requests: the same calls as without."""

from __future__ import annotations

import unittest

from twisted.internet.defer import maybeDeferred

from megabroker.core.authentication import Authentication
from megabroker.core.authentication.scram import new_credential
from megabroker.model import ScramChange
from megabroker.protocols.kafka.protocol import KafkaFactory
from megabroker.protocols.kafka.sasl import SaslConnection
from megabroker.protocols.kafka.schema import sasl_authenticate, sasl_handshake
from tests.unit import test_call_counts
from tests.unit.call_counting import COMPILED, Client


class Authenticated:
    """Every connection is one whose client has said who it is."""

    factory: KafkaFactory

    def connect(self) -> Client:
        factory, broker = self.factory, self.service.broker  # type: ignore[attr-defined]
        if broker.authentication is None:
            broker.authentication = Authentication(
                broker.credentials,
                lambda: 0,
                self.reactor,
                maybeDeferred,  # type: ignore[attr-defined]
            )
            change = ScramChange("alice", "SCRAM-SHA-256", new_credential("sha256", "secret"))
            self.done(broker.credentials.change([change]))  # type: ignore[attr-defined]
            factory.mechanisms = ("PLAIN",)
            factory.connection_class = SaslConnection
        client: Client = super().connect()  # type: ignore[misc]
        chosen = client.ask(sasl_handshake.Request(mechanism="PLAIN"), sasl_handshake.Response, 1)
        assert chosen.error_code == 0
        proof = sasl_authenticate.Request(auth_bytes=b"\0alice\0secret")
        assert client.ask(proof, sasl_authenticate.Response, 2).error_code == 0
        assert client.connection.principal.name == "alice"
        return client


class AuthenticatedCallCountTests(Authenticated, test_call_counts.CallCountTests):
    """In Python."""


@unittest.skipUnless(COMPILED, "the compiled part is not built (./dev compile)")
class CompiledAuthenticatedCallCountTests(Authenticated, test_call_counts.CompiledCallCountTests):
    """With the compiled part."""
