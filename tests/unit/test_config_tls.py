"""What is wrong with the files of a listener with TLS is said by the key, before anything starts."""

from __future__ import annotations

import datetime
import pathlib

import pytest
import trustme
import yaml
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from megabroker.config.load import parse
from megabroker.config.schema import Config
from megabroker.errors import ConfigError, StateError
from megabroker.net.tls import ListenerTls
from megabroker.plugin import discover
from tests.interop.certificates import Certificates

PLUGINS = discover()
WHERE = "protocols.kafka.listeners[0]"


def read(tls: dict[str, str] | None, endpoint: str = "tcp:0", protocol: str = "kafka") -> Config:
    listener = {"endpoint": endpoint, "tls": tls}
    return parse(yaml.safe_dump({"protocols": {protocol: {"listeners": [listener]}}}), "f", PLUGINS)


@pytest.fixture
def made(tmp_path: pathlib.Path) -> Certificates:
    return Certificates(tmp_path)


def faults(tls: dict[str, str], endpoint: str = "tcp:0") -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read(tls, endpoint)
    return {fault.path.removeprefix(f"{WHERE}."): fault.expected for fault in caught.value.faults}


def test_every_protocol_may_have_it(made: Certificates) -> None:
    for protocol in ("kafka", "mega", "cursus"):
        mutual = made.tls(client_auth="required", client_ca=str(made.trusted))
        tls = read(mutual, protocol=protocol).protocols[protocol].listeners[0].tls
        assert tls.client_auth == "required"
        assert read(None, protocol=protocol).protocols[protocol].listeners[0].tls is None


def test_keys_with_a_password(made: Certificates, tmp_path: pathlib.Path) -> None:
    key = load_pem_private_key(made.keys.read_bytes(), None)
    secret, password = tmp_path / "secret.key", tmp_path / "password"
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    secret.write_bytes(encrypted)
    password.write_text("word\n")
    right = made.tls(private_key=str(secret), key_password_file=str(password))
    tls = read(right).protocols["kafka"].listeners[0].tls
    assert ListenerTls("kafka/x", tls).serverConnectionForTLS(None)
    password.write_text("other")
    assert "a private key in PEM" in faults(right)["tls.private_key"]
    found = faults(made.tls(private_key=str(secret)))
    assert list(found) == ["tls.key_password_file"], "it is there that something is missing"
    assert f"the password of {secret}, which is encrypted" in found["tls.key_password_file"]
    found = faults(made.tls(key_password_file=str(password)))
    assert found == {"tls.key_password_file": f"null, as {made.keys} is not encrypted"}
    assert "tls.key_password_file" in faults(made.tls(key_password_file=str(tmp_path / "nowhere")))


def test_faults(made: Certificates, tmp_path: pathlib.Path) -> None:
    other, nowhere = str(made.client("other")), str(tmp_path / "nowhere")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n")
    for more, path, words in (
        ({"certificate_chain": nowhere}, "certificate_chain", "No such file"),
        ({"certificate_chain": str(garbage)}, "certificate_chain", "certificates in PEM"),
        ({"certificate_chain": str(tmp_path)}, "certificate_chain", "Is a directory"),
        ({"private_key": nowhere}, "private_key", "No such file"),
        ({"private_key": other}, "private_key", "the key of the first certificate"),
        ({"private_key": str(made.trusted)}, "private_key", "a private key in PEM"),
        ({"client_auth": "required"}, "client_ca", "client_auth is required"),
        ({"client_auth": "requested", "client_ca": str(garbage)}, "client_ca", "certificates in PEM"),
        ({"client_ca": nowhere}, "client_ca", "No such file"),
        ({"client_auth": "maybe"}, "client_auth", "none, requested, required"),
        ({"principal_rules": "DEFAUL"}, "principal_rules", "RULE:pattern"),
        ({"principal_rules": "RULE:(/x/"}, "principal_rules", "regular expression"),
    ):
        found = faults(made.tls(**more))
        assert words in found[f"tls.{path}"], (more, found)
    found = faults(made.tls(certificate_chain=nowhere, private_key=nowhere))
    assert set(found) == {"tls.certificate_chain", "tls.private_key"}, "both, not only the first"
    assert set(faults({})) == {"tls.certificate_chain", "tls.private_key"}
    assert "type tcp" in faults(made.tls(), "unix:/tmp/x")["endpoint"]


def test_certificates_that_do_not_hold_now(made: Certificates) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for first, last, words in ((-2, -1, "expired"), (1, 2, "begins")):
        leaf = made.authority.issue_cert(
            "localhost",
            not_before=now + datetime.timedelta(days=first),
            not_after=now + datetime.timedelta(days=last),
        )
        leaf.private_key_and_cert_chain_pem.write_to_path(made.keys)
        assert words in faults(made.tls())["tls.certificate_chain"]


def test_what_cannot_be_read_again_leaves_all_as_it_is(made: Certificates) -> None:
    settings = read(made.tls()).protocols["kafka"].listeners[0].tls
    tls = ListenerTls("kafka/x", settings)
    before = tls._context
    made.keys.write_text("gone")
    tls.renew()
    assert tls._context is before
    with pytest.raises(StateError):
        ListenerTls("kafka/x", settings)
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(made.keys)
    tls.renew()
    assert tls._context is not before
