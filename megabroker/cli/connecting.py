"""The options by which a command reaches a running broker, and says who it is.

What an option does not say, the file of --client-config says, and after that the environment.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import ssl
import sys
from collections.abc import Callable
from typing import Any, Final

import click

from megabroker.cli.client_file import ClientFile, read_client_file
from megabroker.cli.cluster import Address, Cluster, Credentials
from megabroker.cli.kafka_client import KafkaClient

__all__ = [
    "DEFAULT_BROKERS",
    "Connect",
    "cluster_options",
    "connection_keys",
    "connection_options",
    "read_password",
]

DEFAULT_BROKERS: Final = "localhost:9092"
_BROKERS: Final = "MEGABROKER_BROKERS"
_PASSWORD: Final = "MEGABROKER_PASSWORD"
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_FILE = click.Path(exists=True, dir_okay=False, path_type=pathlib.Path)
_OPTIONS: Final = (
    click.option(
        "-b",
        "--brokers",
        "-s",
        "--server",
        "brokers",
        metavar="HOST:PORT,...",
        help=f"Kafka listeners, tried in turn; otherwise {_BROKERS}, or {DEFAULT_BROKERS}.",
    ),
    click.option("--as", "login", metavar="USER", help=f"User name; the password is in {_PASSWORD}."),
    click.option("--as-password-file", type=_FILE, help="File with that password; - is standard input."),
    click.option("--mechanism", type=click.Choice(_MECHANISMS), help="SASL mechanism."),
    click.option("--tls", "with_tls", is_flag=True, help="Use TLS; the following options imply it."),
    click.option("--ca", type=_FILE, help="PEM file with trusted certificates."),
    click.option("--certificate", type=_FILE, help="PEM file with your client certificate and its key."),
    click.option(
        "--client-config",
        type=_FILE,
        envvar="MEGABROKER_CLIENT_CONFIG",
        help="Properties file of a Kafka client, as for kcat -F and the Java tools; options take precedence.",
    ),
)
connection_keys: Final = (
    *("brokers", "login", "as_password_file", "mechanism", "with_tls", "ca", "certificate"),
    "client_config",
)


class Connect:
    """What the options of a connection say; asks for a password only when it is called."""

    def __init__(self, given: dict[str, Any], *, input_is_data: bool) -> None:
        self._given = given
        self._input_is_data = input_is_data

    @property
    def said(self) -> bool:
        """Whether an option says which broker."""
        return self._given["brokers"] is not None

    def cluster(self, seconds: float = 30.0) -> Cluster:
        """Return a cluster that nothing was asked of yet. Raises click.UsageError.

        Args:
            seconds: how long to wait for a connection, and for each answer.
        """
        brokers, credentials = self._read()
        return Cluster(brokers, credentials, seconds)

    def client(self) -> KafkaClient:
        """Return a connection to the first broker, not opened yet. Raises click.UsageError."""
        brokers, credentials = self._read()
        return KafkaClient(*brokers[0], credentials.tls, credentials.login)

    def _read(self) -> tuple[list[Address], Credentials]:
        given = self._given
        file = ClientFile() if given["client_config"] is None else read_client_file(given["client_config"])
        option = "--brokers" if self.said else _BROKERS
        text = given["brokers"] or file.brokers or os.environ.get(_BROKERS) or DEFAULT_BROKERS
        return _addresses(text, option), Credentials(_tls(given, file), self._login(given, file))

    def _login(self, given: dict[str, Any], file: ClientFile) -> Any:
        from megabroker.cli.login import Login  # brings Twisted, which few commands have a use for

        user = given["login"] or file.user
        if user is None:
            return None
        password = file.password if given["login"] is None else None
        if given["as_password_file"] is not None or password is None:
            password = self._own_password(given["as_password_file"])
        return Login(user, password, given["mechanism"] or file.mechanism)

    def _own_password(self, file: pathlib.Path | None) -> str:
        if file is None and _PASSWORD in os.environ:
            return os.environ[_PASSWORD]
        if file is None and self._input_is_data:
            raise click.UsageError(
                f"expected your password in {_PASSWORD}, in --as-password-file or in --client-config, "
                "because this command reads the input"
            )
        return read_password(file, "Your password", confirm=False)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets ``connect``, a `Connect`."""
    return _with_options(command, lambda given: {"connect": Connect(given, input_is_data=False)})


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command whose input may be data; it gets ``cluster``, closed at its end."""

    @functools.wraps(command)
    def with_cluster(connect: Connect, **given: Any) -> Any:
        with connect.cluster() as cluster:
            return command(cluster=cluster, **given)

    return _with_options(with_cluster, lambda given: {"connect": Connect(given, input_is_data=True)})


def _with_options(
    command: Callable[..., Any], made: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[..., Any]:
    @functools.wraps(command)
    def wrapped(**given: Any) -> Any:
        own = {key: given.pop(key) for key in connection_keys}
        return command(**made(own), **given)

    result: Callable[..., Any] = wrapped
    for option in reversed(_OPTIONS):
        result = option(result)
    return result


def _addresses(text: str, option: str) -> list[Address]:
    found = []
    for word in text.split(","):
        host, colon, port = word.strip().rpartition(":")
        if not (colon and host and _PORT.fullmatch(port) and 0 < int(port) < 65536):
            raise click.UsageError(
                f"{option} {word.strip()}: expected HOST:PORT, for example {DEFAULT_BROKERS}"
            )
        found.append(Address(host.strip("[]"), int(port)))
    return found


def _tls(given: dict[str, Any], file: ClientFile) -> ssl.SSLContext | None:
    ca, certificate = given["ca"] or file.ca, given["certificate"]
    key = None
    if certificate is None:
        certificate, key = file.certificate, file.key
    if not (given["with_tls"] or given["ca"] or given["certificate"] or file.tls):
        return None
    try:
        tls = ssl.create_default_context(cafile=None if ca is None else str(ca))
        if certificate is not None:
            tls.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise click.UsageError(f"--ca or --certificate: expected PEM files ({error})") from None
    return tls


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
        raise click.UsageError("expected a password that is not empty and contains no zero byte")
    return password
