"""The options by which a command reaches a running broker, and says who it is."""

from __future__ import annotations

import functools
import os
import pathlib
import ssl
import sys
from collections.abc import Callable
from typing import Any, Final

import click

from megabroker.cli.kafka_client import KafkaClient
from megabroker.cli.login import Login
from megabroker.config.security import MECHANISMS

__all__ = ["connection_options", "read_password"]

_PASSWORD: Final = "MEGABROKER_PASSWORD"
_FILE = click.Path(exists=True, dir_okay=False, path_type=pathlib.Path)
_OPTIONS: Final = (
    click.option("-s", "--server", metavar="HOST:PORT", help="A Kafka listener of the broker."),
    click.option("--as", "login", metavar="USER", help=f"Who you are; the password is in {_PASSWORD}."),
    click.option("--as-password-file", type=_FILE, help="Where that password is instead; - is the input."),
    click.option("--mechanism", type=click.Choice(MECHANISMS[:3]), help="By which SASL mechanism."),
    click.option("--tls", "with_tls", is_flag=True, help="Connect by TLS, as those below do too."),
    click.option("--ca", type=_FILE, help="Certificates in PEM of who may have signed the broker's."),
    click.option("--certificate", type=_FILE, help="Your own certificate, and its key, in PEM."),
)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets ``connect``: it returns a client, or None without a server."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> Any:
        keys = ("server", "login", "as_password_file", "mechanism", "with_tls", "ca", "certificate")
        own = {key: given.pop(key) for key in keys}
        return command(connect=functools.partial(_client, **own), **given)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _client(
    *,
    server: str | None,
    login: str | None,
    as_password_file: pathlib.Path | None,
    mechanism: str | None,
    with_tls: bool,
    ca: pathlib.Path | None,
    certificate: pathlib.Path | None,
) -> KafkaClient | None:
    if server is None:
        if login or with_tls or ca or certificate:
            raise click.UsageError("expected --server with the options of a connection")
        return None
    host, colon, port = server.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise click.UsageError(f"--server {server}: expected HOST:PORT, for example localhost:9092")
    tls = None
    if with_tls or ca or certificate:
        try:
            tls = ssl.create_default_context(cafile=None if ca is None else str(ca))
            if certificate is not None:
                tls.load_cert_chain(certificate)
        except (ssl.SSLError, OSError) as error:
            raise click.UsageError(f"--ca or --certificate: expected files in PEM ({error})") from None
    who = None
    if login is not None:
        who = Login(login, _own_password(as_password_file), mechanism)
    return KafkaClient(host.strip("[]"), int(port), tls, who)


def _own_password(file: pathlib.Path | None) -> str:
    if file is None and _PASSWORD in os.environ:
        return os.environ[_PASSWORD]
    return read_password(file, "Your password", confirm=False)


def read_password(file: pathlib.Path | None, prompt: str, *, confirm: bool) -> str:
    """Return a password from a file, from the terminal or else from the first line of the input."""
    if file is not None:
        text = file.read_text(encoding="utf-8")
    elif sys.stdin.isatty():
        text = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm)
    else:
        text = sys.stdin.readline()
    password = text.rstrip("\r\n")
    if not password or "\0" in password:
        raise click.UsageError("expected a password, and one without a zero byte")
    return password
