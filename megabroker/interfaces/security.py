"""Who clients are, and what they may do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.access import Acl, AclFilter, Operation, ResourceType
from megabroker.errors import BrokerError
from megabroker.model import Principal, ScramChange, ScramCredential

__all__ = ["IAuthentication", "IAuthorizer", "ICredentials"]


class ICredentials(Interface):
    """What checks the passwords of users."""

    def users() -> Sequence[str]:
        """Return everyone who has a credential, sorted."""

    def of(user: str) -> Mapping[str, ScramCredential]:
        """Return a user's credentials by mechanism, the SASL name of it; nothing for nobody."""

    def change(changes: Sequence[ScramChange]) -> Deferred[None]:
        """Make all of the changes or none; fires when they are stored. Fails with BrokerError."""


class IAuthentication(Interface):
    """Who clients are; what they say of it, each wire in its own words, is proven here."""

    def begin(mechanism: str) -> Any:
        """Return a new ``megabroker.core.authentication.exchanges.Exchange`` of a SASL mechanism."""

    def step(exchange: Any, message: bytes) -> Deferred[Any]:
        """Take a client's message; fires with a ``Step``. Fails with AuthenticationError, in no hurry."""

    def password(user: str, password: str) -> Deferred[Principal]:
        """Check a password; fires with whose it is. Fails with AuthenticationError, in no hurry."""

    def token(text: str) -> Deferred[Principal]:
        """Check a token of an identity provider; fires and fails as ``password``."""


class IAuthorizer(Interface):
    """Who may do what, by Kafka's access rules. Every wire asks here, and nothing else decides."""

    enabled: bool = Attribute("Whether rules decide; else everybody may do everything.")

    def allowed(
        principal: Principal,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
        *,
        quiet: bool = False,
    ) -> bool:
        """Say whether somebody may do something with one resource.

        Args:
            host: the address the client has.
            quiet: do not put a refusal in the audit log: nothing was refused, something is just not told.
        """

    def allowed_some(
        principal: Principal, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Say whether somebody may do something with any resource of a type (KIP-679)."""

    def operations(
        principal: Principal, host: str, resource_type: ResourceType, name: str
    ) -> Collection[Operation]:
        """Return all that somebody may do with one resource."""

    def describe(wanted: AclFilter) -> Sequence[Acl]:
        """Return the rules that are meant."""

    def create(acls: Sequence[Acl]) -> Deferred[Sequence[BrokerError | None]]:
        """Add rules; fires when they are in force, with why each was refused. Fails with StorageError."""

    def delete(filters: Sequence[AclFilter]) -> Deferred[Sequence[Sequence[Acl]]]:
        """Remove rules; fires with those that each filter meant. Fails with BrokerError."""
