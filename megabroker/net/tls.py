"""TLS under the connections of a listener: its certificates, which may be changed, and what went wrong.

Owns what is offered: versions 1.2 and 1.3, ciphers with forward secrecy and authentication, no renegotiation
and no compression; and the user that a client's certificate names. A context is made of the files at start
and whenever ``renew`` is called; connections keep the one they began with.

Imported only by a process that has a listener with TLS.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.config.certificates import read_certificates
from megabroker.config.principal_rules import PrincipalRules
from megabroker.config.security import TlsSettings
from megabroker.errors import AuthenticationError, ErrorCode, Fault, StateError
from megabroker.model import ANONYMOUS, Principal
from megabroker.net.distinguished_names import written

__all__ = ["ListenerTls"]

_log = Logger()

_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"  # of 1.2; all those of 1.3 are good
_SESSIONS: Final = b"megabroker"
_USER: Final = "User"
_VERIFY: Final = {
    "none": SSL.VERIFY_NONE,
    "requested": SSL.VERIFY_PEER,
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
_WHY: Final = {
    "http request": "the peer speaks HTTP without TLS",
    "wrong version number": "the client does not use TLS, or an unsupported version",
    "packet length too long": "the peer does not speak TLS",
    "unexpected message": "the peer does not speak TLS",
    "unsupported protocol": "the peer offers no TLS version from 1.2 on",
    "no shared cipher": "the peer offers none of the ciphers there are here",
    "peer did not return a certificate": "the client sent no certificate, which tls.client_auth requires",
    "certificate verify failed": "the peer's certificate is not good",
    "tlsv1 alert unknown ca": "the client does not trust the issuer of the broker's certificate",
    "sslv3 alert certificate unknown": "the peer does not take our certificate",
    "sslv3 alert bad certificate": "the peer does not take our certificate",
    "tlsv1 alert protocol version": "the peer takes no TLS version that there is here",
}
"""What OpenSSL's words mean here."""


@implementer(IOpenSSLServerConnectionCreator)
class ListenerTls:
    """TLS as one listener has it.

    Args:
        name: of the listener, for the log.

    Raises:
        StateError: the files cannot be used.
    """

    def __init__(self, name: str, settings: TlsSettings) -> None:
        self._name = name
        self._settings = settings
        self._rules = PrincipalRules(settings.principal_rules)
        self._context = self._make_context()

    def renew(self) -> None:
        """Read the files again, for connections from now on; if they cannot be used all stays as it is."""
        try:
            self._context = self._make_context()
        except StateError as error:
            _log.error(
                "the certificates of {listener} stay: {error}", listener=self._name, error=error.message
            )

    def wrapped(self, factory: IProtocolFactory, clock: Any) -> IProtocolFactory:
        """Return a factory whose connections speak TLS and, within it, what another's do."""
        return _TlsFactory(self, False, factory, clock)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """IOpenSSLServerConnectionCreator: by the present certificates."""
        return SSL.Connection(self._context, None)

    def principal(self, certificate: X509 | None) -> Principal:
        """Return whom a client's certificate names. Raises AuthenticationError."""
        if certificate is None:
            return ANONYMOUS
        try:
            name = written(certificate.to_cryptography().subject.public_bytes())
        except ValueError as error:
            raise AuthenticationError(f"a certificate whose name cannot be read: {error}") from None
        user = self._rules.apply(name)
        if not user:
            raise AuthenticationError(f"no rule of tls.principal_rules holds for {name[:200]!r}")
        return Principal(_USER, user)

    def explain(self, error: BaseException | None) -> str | None:
        """Say why TLS did not come about, or None if it is not for TLS."""
        if not isinstance(error, SSL.Error):
            return None
        reasons = [str(entry[2]) for entry in (error.args[0] if error.args else ()) if len(entry) == 3]
        reason = reasons[0] if reasons else "no reason is known"
        return f"TLS failed: {_WHY.get(reason, reason)} ({reason})"

    def _make_context(self) -> SSL.Context:
        settings = self._settings
        found = read_certificates(
            settings.certificate_chain, settings.private_key, settings.key_password_file
        )
        if isinstance(found, Fault):
            raise StateError(ErrorCode.INVALID_CONFIG, f"tls of listener {self._name}: {found}")
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_session_id(_SESSIONS)
        try:
            context.set_cipher_list(_CIPHERS)
            context.use_certificate(found.chain[0])
            for between in found.chain[1:]:
                context.add_extra_chain_cert(between)
            context.use_privatekey(found.key)
            if settings.client_auth != "none":
                context.load_verify_locations(str(settings.client_ca))
                context.load_client_ca(str(settings.client_ca).encode())
                context.set_verify(_VERIFY[settings.client_auth], None)
        except (SSL.Error, OSError) as error:
            raise StateError(ErrorCode.INVALID_CONFIG, f"tls of listener {self._name}: {error}") from error
        _log.info(
            "certificate of {listener}: {subject}, until {until}",
            listener=self._name,
            subject=written(found.chain[0].subject.public_bytes()) or "no name",
            until=f"{found.chain[0].not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        )
        return context


class _TlsFactory(TLSMemoryBIOFactory):
    """Passes on that the factory within refuses a connection."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """IProtocolFactory."""
        within = self.wrappedFactory.buildProtocol(addr)
        return None if within is None else _Tls(self, within)


class _Tls(BufferingTLSTransport):
    """Lets go of all that refers back to it when the connection is gone, so that nothing need look for it."""

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)  # type: ignore[no-untyped-call]
        for failure in (reason, self._reason):
            if failure is not None:
                failure.cleanFailure()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """IProtocol."""
        super().connectionLost(reason)
        self.wrappedProtocol = self._producer = None  # type: ignore[assignment]
