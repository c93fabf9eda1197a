"""``megabroker user``: who has a password.

Owns the commands; what they ask goes over Kafka's wire to a running broker, or, for the first administrator
of one that asks everybody who they are, into the data directory of one that is stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import click
from twisted.internet.defer import Deferred

from megabroker.cli.command_groups import CommandGroup
from megabroker.cli.connecting import Connect, connection_options, read_password
from megabroker.cli.kafka_client import KafkaClient
from megabroker.cli.output import json_option, print_json
from megabroker.cli.refusals import check
from megabroker.config.load import load
from megabroker.core.authentication.scram import DIGESTS, MAX_ITERATIONS, MIN_ITERATIONS, credential
from megabroker.core.credentials import Credentials
from megabroker.errors import DataDirectoryLocked, ErrorCode, RequestError, StateError
from megabroker.model import Durability, ScramChange, ScramCredential
from megabroker.plugin import discover
from megabroker.protocols.kafka.schema import alter_user_scram_credentials, describe_user_scram_credentials
from megabroker.protocols.kafka.scram import MECHANISMS
from megabroker.storage.lock import DirectoryLock
from megabroker.storage.metadata.database import METADATA_FILE
from megabroker.storage.metadata.sqlite import SqliteMetadataStore

__all__ = ["user"]

_SALT_BYTES: Final = 16
_NUMBERS: Final = {mechanism.name: number for number, mechanism in MECHANISMS.items()}
_PATH = click.Path(path_type=pathlib.Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=pathlib.Path)
_Upsertion = alter_user_scram_credentials.Request.Upsertion
_Deletion = alter_user_scram_credentials.Request.Deletion


@click.group(cls=CommandGroup)
def user() -> None:
    """Users and their passwords, which SASL and AUTH ask for.

    Use --brokers for a running broker, and -c or --data-dir for a stopped one.
    """


def _place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--data-dir", type=_PATH, help="Data directory of a stopped broker.")(command)
    return click.option(
        "-c", "--config", type=_PATH, help="Configuration of a stopped broker, for its data_dir."
    )(command)


@user.command()
@click.argument("name")
@click.option("--password-file", type=_FILE, help="File with the new password; otherwise prompted for.")
@click.option(
    "--iterations",
    type=click.IntRange(MIN_ITERATIONS, MAX_ITERATIONS),
    default=MIN_ITERATIONS,
    show_default=True,
    help="Number of hash iterations; more make guessing and authentication slower.",
)
@json_option
@_place_options
@connection_options
def add(
    connect: Connect,
    name: str,
    password_file: pathlib.Path | None,
    iterations: int,
    config: pathlib.Path | None,
    data_dir: pathlib.Path | None,
    as_json: bool,
) -> None:
    """Add a user, or change the password of an existing user."""
    if not name:
        raise click.UsageError("expected the name of a user")
    with _users(connect, config, data_dir, may_create=True) as users:
        password = read_password(password_file, f"Password of {name}", confirm=True)
        users.set(name, password.encode(), iterations)
    if as_json:
        print_json({"user": name, "mechanisms": sorted(DIGESTS)})
    else:
        click.echo(f"{name} has a password{users.where}")


@user.command()
@click.argument("name")
@json_option
@_place_options
@connection_options
def delete(
    connect: Connect,
    name: str,
    config: pathlib.Path | None,
    data_dir: pathlib.Path | None,
    as_json: bool,
) -> None:
    """Delete a user."""
    with _users(connect, config, data_dir) as users:
        if not users.kinds().get(name):
            raise RequestError(ErrorCode.INVALID_REQUEST, f"there is no user {name}")
        users.remove(name, users.kinds()[name])
    if as_json:
        print_json({"deleted": [name]})
    else:
        click.echo(f"{name} no longer has a password{users.where}")


@user.command("list")
@json_option
@_place_options
@connection_options
def show(connect: Connect, config: pathlib.Path | None, data_dir: pathlib.Path | None, as_json: bool) -> None:
    """List users and the SASL mechanisms that they can use."""
    with _users(connect, config, data_dir) as users:
        found = sorted(users.kinds().items())
    if as_json:
        print_json([{"user": name, "mechanisms": sorted(kinds)} for name, kinds in found])
        return
    for name, kinds in found:
        click.echo(f"{name}\t{', '.join(sorted(kinds))}")
    if not found:
        click.echo(f"nobody has a password{users.where}", err=True)


class _OfBroker:
    """The users of a broker that runs."""

    where = ""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    def kinds(self) -> dict[str, list[str]]:
        answer = self._client.ask(describe_user_scram_credentials.Request(users=None), 0)
        check(answer.error_code, answer.error_message, "users")
        return {
            row.user: [MECHANISMS[one.mechanism].name for one in row.credential_infos]
            for row in answer.results
        }

    def set(self, name: str, password: bytes, iterations: int) -> None:
        for mechanism, digest in DIGESTS.items():
            salt = secrets.token_bytes(_SALT_BYTES)
            made = _Upsertion(
                name=name,
                mechanism=_NUMBERS[mechanism],
                iterations=iterations,
                salt=salt,
                salted_password=hashlib.pbkdf2_hmac(digest, password, salt, iterations),
            )
            self._alter(upsertions=[made])

    def remove(self, name: str, kinds: Sequence[str]) -> None:
        for mechanism in kinds:
            self._alter(deletions=[_Deletion(name=name, mechanism=_NUMBERS[mechanism])])

    def _alter(self, **changes: Any) -> None:
        answer = self._client.ask(alter_user_scram_credentials.Request(**changes), 0)
        for row in answer.results:
            check(row.error_code, row.error_message, f"user {row.user}")


class _OfDirectory:
    """The users in a data directory that no broker has open."""

    def __init__(self, credentials: Credentials, place: pathlib.Path) -> None:
        self._credentials = credentials
        self.where = f" in {place.absolute()}"

    def kinds(self) -> Mapping[str, Sequence[str]]:
        return {name: list(self._credentials.of(name)) for name in self._credentials.users()}

    def set(self, name: str, password: bytes, iterations: int) -> None:
        made: list[ScramChange] = []
        for mechanism, digest in DIGESTS.items():
            salt = secrets.token_bytes(_SALT_BYTES)
            salted = hashlib.pbkdf2_hmac(digest, password, salt, iterations)
            kept: ScramCredential = credential(digest, iterations, salt, salted)
            made.append(ScramChange(name, mechanism, kept))
        self._change(made)

    def remove(self, name: str, kinds: Sequence[str]) -> None:
        self._change([ScramChange(name, mechanism, None) for mechanism in kinds])

    def _change(self, changes: list[ScramChange]) -> None:
        failures: list[Any] = []
        changed: Deferred[None] = self._credentials.change(changes)
        changed.addErrback(failures.append)
        if failures:
            failures[0].raiseException()


class _AtOnce:
    """Neither reactor nor thread: whatever is put off is done at once."""

    def callLater(self, delay: float, function: Callable[..., object], *args: object) -> None:
        function(*args)

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        function(*args)

    def start(self) -> None:
        """There is nothing to start."""

    def submit(self, job: Callable[[], None]) -> None:
        job()

    def stop(self) -> None:
        """There is nothing to stop."""


@contextlib.contextmanager
def _users(
    connect: Connect,
    config: pathlib.Path | None,
    data_dir: pathlib.Path | None,
    *,
    may_create: bool = False,
) -> Iterator[_OfBroker | _OfDirectory]:
    if connect.said + (config is not None) + (data_dir is not None) > 1:
        raise click.UsageError("expected one of --brokers, --config and --data-dir")
    if config is None and data_dir is None:
        with connect.client() as client:
            yield _OfBroker(client)
        return
    place = load(config, discover()).data_dir if config is not None else data_dir
    assert place is not None
    lock = _lock(place, may_create=may_create)
    try:
        at_once = _AtOnce()
        store = SqliteMetadataStore(place / METADATA_FILE, Durability.FSYNC, at_once, worker=at_once)
        store.open()
        try:
            credentials = Credentials(store)
            credentials.load()
            yield _OfDirectory(credentials, place)
        finally:
            store.close()
    finally:
        lock.release()


def _lock(place: pathlib.Path, *, may_create: bool) -> DirectoryLock:
    """Take a data directory, which only the first password of all may make."""
    if not may_create and not (place / METADATA_FILE).exists():
        raise StateError(
            ErrorCode.INVALID_REQUEST,
            f"{place.absolute()} is not a data directory: expected {METADATA_FILE} in it",
        )
    try:
        if not place.exists():
            place.mkdir(parents=True)
            click.echo(f"made the data directory {place.absolute()}", err=True)
        lock = DirectoryLock(str(place))
        lock.take(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    except OSError as error:
        raise StateError(
            ErrorCode.INVALID_REQUEST, f"cannot use {place.absolute()} as data directory: {error}"
        ) from error
    except DataDirectoryLocked as error:
        raise StateError(
            ErrorCode.INVALID_REQUEST, f"{error}; to use the running broker, pass --brokers"
        ) from error
    return lock
