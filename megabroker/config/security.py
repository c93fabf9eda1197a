"""The section ``security``: who clients are, and what they may do."""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Iterable
from typing import Final

import attrs

from megabroker.config import fields
from megabroker.config.kinds import Text
from megabroker.config.principal_rules import PrincipalRules
from megabroker.config.units import DAY, HOUR
from megabroker.errors import Fault

__all__ = [
    "MECHANISMS",
    "TOKENS",
    "Authorizer",
    "SecuritySettings",
    "TlsSettings",
    "TokenSettings",
    "token_faults",
]

TOKENS: Final = "OAUTHBEARER"
"""The SASL mechanism that takes tokens."""

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", TOKENS)
"""The SASL mechanisms that a listener can have."""


class Authorizer(enum.Enum):
    """Who decides what somebody may do."""

    NONE = "none"
    ACLS = "acls"


@attrs.frozen(kw_only=True)
class TokenSettings:
    """Tokens of an identity provider, for the SASL mechanism OAUTHBEARER."""

    keys: str | None = fields.optional_text(
        pattern=r"https://[^/@\s]+(/\S*)?|http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?(/\S*)?"
        r"|(?!https?://).+",
        what="the path of a file, or a URL that begins with https:// and names no user",
        doc="The identity provider's keys, a JSON Web Key Set: a file or an https URL; needs "
        "the extra oauth of the installation. Read again if a token names an unknown key.",
    )
    issuer: str | None = fields.optional_text(
        reloadable=True, doc="Accepted issuer, the claim iss of a token; null for any."
    )
    audiences: tuple[str, ...] = fields.listing(
        of=Text(),
        maximum=100,
        reloadable=True,
        doc="Accepted audiences; one of them must be in the claim aud of a token. Empty for any.",
    )
    name_claim: str = fields.text(
        "sub", reloadable=True, doc="The claim that names the user; Kafka's sub.claim.name."
    )
    clock_skew_ms: int = fields.duration_ms(
        30_000, maximum=HOUR, reloadable=True, doc="Allowed difference to the provider's clock."
    )
    refresh_ms: int = fields.duration_ms(
        HOUR, minimum=1000, maximum=30 * DAY, doc="Age at which the keys are read again."
    )


@attrs.frozen(kw_only=True)
class SecuritySettings:
    """Who clients are, and what they may do."""

    authorizer: Authorizer = fields.choice(
        Authorizer.NONE,
        Authorizer,
        doc="Access control: none (everybody may do everything), or access rules (acls).",
    )
    super_users: tuple[str, ...] = fields.listing(
        of=Text(pattern=r"[A-Za-z]+:.+", what="a principal such as User:admin"),
        maximum=1000,
        doc="Principals that may do everything, whatever the rules say.",
        reloadable=True,
    )
    allow_everyone_if_no_acl_found: bool = fields.flag(
        False,
        doc="Whether resources without any access rule are open to everybody, instead of to "
        "super users only.",
        reloadable=True,
    )
    refusal_delay_ms: int = fields.duration_ms(
        100,
        maximum=10_000,
        reloadable=True,
        doc="Shortest time until a failed authentication is answered; Kafka's "
        "connection.failed.authentication.delay.ms.",
    )
    session_ms: int | None = fields.optional_duration_ms(
        minimum=1000,
        maximum=365 * DAY,
        reloadable=True,
        doc="How long a SASL authentication is valid before the client must repeat it on the "
        "same connection; null for ever. Kafka's connections.max.reauth.ms.",
    )
    tokens: TokenSettings = fields.section(TokenSettings, doc="Tokens of an identity provider.")

    @property
    def warning(self) -> str | None:
        """What is not wrong, but seldom meant."""
        if self.authorizer is Authorizer.NONE or self.super_users or self.allow_everyone_if_no_acl_found:
            return None
        return (
            "security.super_users: nothing: expected a principal such as User:admin, as security.authorizer "
            "is acls: else only whom a stored rule allows ALTER on the cluster can make rules"
        )


@attrs.frozen(kw_only=True)
class TlsSettings:
    """TLS of a listener: the broker's own certificate, and whether clients need one."""

    certificate_chain: pathlib.Path = fields.path(
        doc="PEM file with the broker's certificate, followed by the intermediate certificates."
    )
    private_key: pathlib.Path = fields.path(
        doc="PEM file with the key of that certificate; it may be the same file."
    )
    key_password_file: pathlib.Path | None = fields.optional_path(
        doc="File with the password of an encrypted key; null if it is not encrypted."
    )
    client_auth: str = fields.choice(
        "none",
        ("none", "requested", "required"),
        doc="Whether clients send a certificate; Kafka's ssl.client.auth.",
    )
    client_ca: pathlib.Path | None = fields.optional_path(
        doc="PEM file with the certificates of the authorities that sign client certificates."
    )
    principal_rules: str = fields.text(
        "DEFAULT",
        doc="How the subject of a certificate is mapped to a user name; Kafka's ssl.principal.mapping.rules.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what is wrong with the files, now; they are read."""
        from megabroker.config.certificates import read_certificates, trust_fault, unreadable

        if self.client_auth != "none" and self.client_ca is None:
            expected = (
                f"a file with the certificates of who signs clients', as client_auth is {self.client_auth}"
            )
            yield Fault("client_ca", None, expected)
        elif self.client_ca is not None and (wrong := trust_fault(self.client_ca)) is not None:
            yield Fault("client_ca", str(self.client_ca), wrong)
        try:
            PrincipalRules(self.principal_rules)
        except ValueError as error:
            yield Fault("principal_rules", self.principal_rules, str(error))
        found = read_certificates(self.certificate_chain, self.private_key, self.key_password_file)
        if isinstance(found, Fault):
            yield found
            wrong = unreadable(self.private_key)
            if found.path == "certificate_chain" and wrong is not None:  # which keeps the key from being read
                yield Fault("private_key", str(self.private_key), wrong)


def token_faults(tokens: TokenSettings, listeners: Iterable[str]) -> Iterable[Fault]:
    """Yield what is missing for listeners that take tokens.

    Args:
        listeners: paths of the keys that say so.
    """
    import importlib.util

    if tokens.keys is None:
        yield Fault("security.tokens.keys", None, "a file or a URL, as a listener has OAUTHBEARER")
    elif "://" not in tokens.keys:
        try:
            with open(tokens.keys, "rb"):
                pass
        except OSError as error:
            expected = f"a file with a JSON Web Key Set, or an https URL ({error.strerror})"
            yield Fault("security.tokens.keys", tokens.keys, expected)
    if importlib.util.find_spec("jwt") is None:
        expected = "an installation with the extra oauth (pip install 'megabroker[oauth]'), for OAUTHBEARER"
        for path in listeners:
            yield Fault(path, TOKENS, expected)
