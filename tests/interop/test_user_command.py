"""``megabroker user``: the first administrator in a stopped directory, the others over the wire."""

from __future__ import annotations

import pathlib
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from megabroker.cli.main import commands
from megabroker.errors import BrokerError, DataDirectoryLocked
from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates
from tests.interop.conftest import check_log
from tests.interop.secured import addresses, listener

pytestmark = pytest.mark.interop


def user(*arguments: str, password: str = "", text: str = "") -> tuple[int, list[str], list[str]]:
    """Run the command in this process; return its exit code, and its lines on both outputs."""
    done = CliRunner().invoke(
        commands, ["user", *arguments], input=text, env={"MEGABROKER_PASSWORD": password}
    )
    errors = done.stderr.splitlines()
    if isinstance(done.exception, BrokerError | DataDirectoryLocked):
        errors.append(f"megabroker: {done.exception}")
    else:
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout.splitlines(), errors


class Place:
    """A broker that was given its first administrator before it had ever run."""

    def __init__(self, broker: BrokerProcess, certificates: Certificates) -> None:
        self.broker = broker
        self.certificates = certificates
        self.any, self.plain, self.tls = addresses(broker)

    @property
    def admin(self) -> tuple[str, ...]:
        """The options by which the administrator comes."""
        return ("-s", self.any, "--as", "admin")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    directory = tmp_path_factory.mktemp("broker")
    mutual = certificates.tls(client_auth="required", client_ca=str(certificates.trusted))
    listeners = [
        listener("any", sasl=["SCRAM-SHA-256", "SCRAM-SHA-512"]),
        listener("plain", sasl=["PLAIN"]),
        listener("tls", tls=mutual, sasl=["SCRAM-SHA-256"]),
    ]
    config = {"durability": "os", "protocols": {"kafka": {"listeners": listeners}}}
    data = str(directory / "data")
    first = user("add", "admin", "--data-dir", data, text="first\n")
    assert first == (0, [f"admin has a password in {data}"], [f"made the data directory {data}"])
    assert user("add", "gone", "--data-dir", data, text="x\n")[0] == 0
    assert user("delete", "gone", "--data-dir", data)[0] == 0
    added = user("add", "admin", "--data-dir", data, text="secret\n")
    assert added == (0, [f"admin has a password in {data}"], [])
    kinds = "SCRAM-SHA-256, SCRAM-SHA-512"
    assert user("list", "--data-dir", data) == (0, [f"admin\t{kinds}"], [])
    mode = (directory / "data" / "metadata.sqlite").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    with BrokerProcess(config, directory) as broker:
        yield Place(broker, certificates)
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


def test_over_the_wire(place: Place) -> None:
    secret = {"password": "secret"}
    assert user("add", "bob=,ö", *place.admin, **secret, text="pässword\n")[0] == 0
    listed = user("list", *place.admin, **secret)[1]
    assert [line.split("\t")[0] for line in listed] == ["admin", "bob=,ö"]
    for mechanism, address in (("SCRAM-SHA-512", place.any), ("PLAIN", place.plain)):
        producer = Producer(
            {
                "bootstrap.servers": address,
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": mechanism,
                "sasl.username": "bob=,ö",
                "sasl.password": "pässword",
            }
        )
        assert producer.list_topics(timeout=10).brokers
    # The one that was added may do the same, by the mechanism that there is.
    assert user("list", "-s", place.plain, "--as", "bob=,ö", password="pässword")[0] == 0
    assert user("delete", "bob=,ö", *place.admin, **secret)[0] == 0
    added = user("add", "eve", "--json", *place.admin, **secret, text="x\n")[1]
    assert added == ['{"user":"eve","mechanisms":["SCRAM-SHA-256","SCRAM-SHA-512"]}']
    assert user("delete", "eve", "--json", *place.admin, **secret)[1] == ['{"deleted":["eve"]}']
    assert len(user("list", *place.admin, **secret)[1]) == 1


def test_over_tls_with_a_certificate(place: Place) -> None:
    trusted = ("-s", place.tls, "--as", "admin", "--ca", str(place.certificates.trusted))
    mine = str(place.certificates.client("me"))
    assert user("list", *trusted, "--certificate", mine, password="secret")[0] == 0
    code, _, errors = user("list", *trusted, password="secret")
    assert (code, len(errors)) == (1, 1)
    code, _, errors = user("list", "-s", place.tls, "--tls", "--as", "admin", password="secret")
    assert code == 1
    assert "certificate verify failed" in errors[0]


def test_commands_of_nobody_are_told_to_log_in(place: Place) -> None:
    """The broker has answered already, but only which versions it serves, which it tells anybody."""
    done = CliRunner().invoke(commands, ["status", "-b", place.any])
    assert isinstance(done.exception, BrokerError)
    assert "the broker closed the connection; perhaps it requires a user (--as)" in str(done.exception)
    assert "TLS" not in str(done.exception)


def test_mistakes_are_one_line_each(place: Place) -> None:
    data = str(place.broker.directory / "data")
    for arguments, password, words in (
        (("list", *place.admin), "wrong", "Authentication failed"),
        (("list", "-s", place.any), "", "a user (--as)"),
        (("list", "-s", place.tls, "--as", "admin"), "secret", "requires TLS"),
        (("list", "-s", "127.0.0.1:1", "--as", "admin"), "secret", "127.0.0.1:1: "),
        (("list", "-s", place.any, "--as", "admin", "--mechanism", "PLAIN"), "secret", "not PLAIN"),
        (("delete", "nobody", *place.admin), "secret", "there is no user nobody"),
        (("list", "--data-dir", data), "", "in use by another broker"),
        (("delete", "x", "--data-dir", data), "", "pass --brokers"),
        (
            ("list", "--data-dir", f"{data}/typo"),
            "",
            "typo is not a data directory: expected metadata.sqlite",
        ),
        (("add", "x", "--data-dir", f"{data}/metadata.sqlite/below"), "x", "Not a directory"),
    ):
        code, printed, errors = user(*arguments, password=password)
        assert (code, printed, len(errors)) == (1, [], 1), (arguments, errors)
        assert errors[0].startswith("megabroker: ")
        assert words in errors[0], (arguments, errors)
    assert not (place.broker.directory / "data" / "typo").exists()
    for arguments in (
        ("list", "-s", place.any, "--data-dir", data),
        ("list", "-s", "nowhere"),
        ("add", "x", "--iterations", "1", *place.admin),
        ("add", "", *place.admin),
    ):
        assert user(*arguments, password="secret")[0] == 2, arguments
    code, _, errors = user("add", "x", *place.admin, password="secret", text="\n")
    assert code == 2
    assert "expected a password" in errors[-1]


def test_as_a_command_of_its_own(place: Place) -> None:
    script = str(pathlib.Path(sys.executable).with_name("megabroker"))
    command = [script, "user", "list", "-s", place.any]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"megabroker: {place.any}: ")
