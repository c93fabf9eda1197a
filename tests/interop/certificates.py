"""Certificates for tests, made anew each time."""

from __future__ import annotations

import pathlib
import ssl
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["Certificates"]


class Certificates:
    """An authority, what it has signed, and where that lies.

    Attributes:
        keys: file with the broker's certificate and key.
        trusted: file with the authority's certificate.
    """

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        self.authority = trustme.CA()
        self.keys = place / "broker.pem"
        self.trusted = place / "authority.pem"
        self.authority.cert_pem.write_to_path(self.trusted)
        self.renew()

    def renew(self) -> None:
        """Give the broker another certificate, in the same file."""
        made = self.authority.issue_cert("localhost", "127.0.0.1", common_name="broker")
        fresh = self.place / "fresh.pem"
        made.private_key_and_cert_chain_pem.write_to_path(fresh)
        fresh.rename(self.keys)

    def client(self, name: str, authority: trustme.CA | None = None) -> pathlib.Path:
        """Return a file with certificate and key of a client, as Java reads it too."""
        made = (authority or self.authority).issue_cert(f"{name}@example.org", common_name=name)
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        chain = b"".join(one.bytes() for one in made.cert_chain_pems)
        found = self.place / f"{name}.pem"
        found.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
        return found

    def tls(self, **more: Any) -> dict[str, Any]:
        """Return the section of a listener."""
        return {"certificate_chain": str(self.keys), "private_key": str(self.keys), **more}

    def context(self, client: pathlib.Path | None = None) -> ssl.SSLContext:
        """Return what a client connects with."""
        made = ssl.create_default_context(cafile=str(self.trusted))
        if client is not None:
            made.load_cert_chain(client)
        return made
