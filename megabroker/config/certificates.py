"""Certificates and keys from their files, and what is wrong with them.

Owns the reading of PEM. Imports what reads it when it is called: a broker without TLS never does.
"""

from __future__ import annotations

import datetime
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

from megabroker.errors import Fault

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["Certificates", "read_certificates", "trust_fault", "unreadable"]

_MAX_FILE_BYTES = 1 << 20


class Certificates(NamedTuple):
    """What a listener shows its clients.

    Attributes:
        chain: its own certificate first.
        key: the private key of that one.
    """

    chain: list[Certificate]
    key: Any


def read_certificates(
    chain_file: pathlib.Path, key_file: pathlib.Path, password_file: pathlib.Path | None
) -> Certificates | Fault:
    """Return certificates and key, or the first fault in them, by the names of the keys. Blocking."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    where, path, expected = "certificate_chain", chain_file, "a file of certificates in PEM"
    try:
        chain = load_pem_x509_certificates(_read(chain_file))
        wrong = _age(chain[0])
        if wrong is not None:
            return Fault(where, str(path), wrong)
        password = None
        if password_file is not None:
            where, path, expected = "key_password_file", password_file, "a readable file"
            password = _read(password_file).rstrip(b"\r\n")
        where, path, expected = "private_key", key_file, "a file with a private key in PEM"
        data = _read(key_file)
        try:
            key = load_pem_private_key(data, password)
        except TypeError:  # which is not about the file, but about there being a password or none
            if password is None:
                expected = f"a file with the password of {key_file}, which is encrypted"
                return Fault("key_password_file", None, expected)
            return Fault("key_password_file", str(password_file), f"null, as {key_file} is not encrypted")
    except OSError as error:
        return Fault(where, str(path), f"{expected} ({error.strerror})")
    except (ValueError, TypeError) as error:
        return Fault(where, str(path), f"{expected} ({str(error).split('. ')[0].rstrip('.')})")
    if key.public_key() != chain[0].public_key():
        return Fault("private_key", str(key_file), f"the key of the first certificate in {chain_file}")
    return Certificates(chain, key)


def trust_fault(path: pathlib.Path) -> str | None:
    """Say what is expected of a file of certificates that are trusted, or None if it is right. Blocking."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        load_pem_x509_certificates(_read(path))
    except OSError as error:
        return f"a file of certificates in PEM ({error.strerror})"
    except ValueError:
        return "a file of certificates in PEM"
    return None


def unreadable(path: pathlib.Path) -> str | None:
    """Say what is expected of a file with a key that cannot be read, or None if it can. Blocking."""
    try:
        _read(path)
    except OSError as error:
        return f"a file with a private key in PEM ({error.strerror})"
    return None


def _read(path: pathlib.Path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"it has more than {_MAX_FILE_BYTES} bytes")
    return data


def _age(certificate: Certificate) -> str | None:
    """Say what is expected of a certificate that does not hold now."""
    now = datetime.datetime.now(datetime.UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > last:
        return f"a certificate that holds; this one has expired at {last:%Y-%m-%dT%H:%M:%SZ}"
    if now < first:
        return f"a certificate that holds; this one begins to at {first:%Y-%m-%dT%H:%M:%SZ}"
    return None
