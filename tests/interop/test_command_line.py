"""The twistd command with the mistakes people make; each is one line that says what would be right."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from megabroker import __version__
from tests.brokers import BrokerProcess
from tests.interop.wires import until

pytestmark = pytest.mark.interop


def twistd(*arguments: str, cwd: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = BrokerProcess.command(pathlib.Path("unused"))[:2]
    return subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


def write_config(directory: pathlib.Path, endpoint: str = "tcp:0:interface=127.0.0.1") -> pathlib.Path:
    path = directory / "broker.yaml"
    path.write_text(
        f"data_dir: {directory / 'data'}\nhttp: {{enabled: false}}\n"
        f"protocols: {{mega: {{listeners: [{{endpoint: '{endpoint}'}}]}}}}\n"
    )
    return path


@pytest.mark.parametrize("option", ["--pidfile", "--logfile"])
def test_a_place_that_cannot_be_written(tmp_path: pathlib.Path, option: str) -> None:
    write_config(tmp_path)
    place = tmp_path / "nowhere" / "file"
    ended = twistd("--nodaemon", f"{option}={place}", "megabroker", "-c", "broker.yaml", cwd=tmp_path)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"megabroker cannot start: it may not write {place}")
    assert f"expected {option}=" in line
    assert not (tmp_path / "data").exists()


def test_a_taken_port_is_named_with_its_protocol(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        write_config(tmp_path, endpoint)
        ended = twistd("--nodaemon", "--pidfile=", "megabroker", "-c", "broker.yaml", cwd=tmp_path)
        assert ended.returncode == 1
        assert f"megabroker cannot start: protocols.mega: endpoint {endpoint}: " in ended.stderr
        assert "Traceback" not in ended.stderr + ended.stdout

        daemon = twistd("--pidfile=d.pid", "--logfile=d.log", "megabroker", "-c", "broker.yaml", cwd=tmp_path)
        assert daemon.returncode == 1
        assert "cannot start: protocols.mega" in daemon.stdout + daemon.stderr
        log = (tmp_path / "d.log").read_text()
        assert log.count("megabroker cannot start: protocols.mega") == 1
        assert "Traceback" not in log
        # The one who was asked to start it may be gone before the daemon itself has tidied up.
        until(lambda: not (tmp_path / "d.pid").exists(), what="the file d.pid is removed")


@pytest.mark.parametrize("library", ["cramjam", "lz4", "backports"])
def test_a_compression_library_that_is_missing(tmp_path: pathlib.Path, library: str) -> None:
    if library == "backports" and sys.version_info >= (3, 14):
        pytest.skip("zstd is part of this Python")
    write_config(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n\nsys.modules[{library!r}] = None\n")
    ended = twistd("megabroker", "--check", "-c", "broker.yaml", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"megabroker cannot start: {library}")
    assert "is not installed" in line


def test_nothing_enabled_is_worth_a_warning(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty.yaml").write_text(f"data_dir: {tmp_path / 'data'}\n")
    ended = twistd("megabroker", "--check", "-c", "empty.yaml", cwd=tmp_path)
    assert ended.returncode == 0
    assert "warning: no protocol is enabled" in ended.stderr


def test_rules_that_nobody_can_make_are_worth_a_warning(tmp_path: pathlib.Path) -> None:
    config = write_config(tmp_path)
    rules = "security: {authorizer: acls%s}\n"
    plain = config.read_text()
    config.write_text(plain + rules % "")
    ended = twistd("megabroker", "--check", "-c", "broker.yaml", cwd=tmp_path)
    assert ended.returncode == 0
    assert "warning: security.super_users: nothing: expected a principal such as User:admin" in ended.stderr
    with BrokerProcess({"security": {"authorizer": "acls"}}) as broker:
        assert broker.log.count("nobody can make access rules: security.super_users: nothing") == 1
    for more in (", super_users: ['User:admin']", ", allow_everyone_if_no_acl_found: true"):
        config.write_text(plain + rules % more)
        ended = twistd("megabroker", "--check", "-c", "broker.yaml", cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_the_file_is_found_again_after_a_change_of_directory(tmp_path: pathlib.Path) -> None:
    config = write_config(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    log = tmp_path / "run.log"
    command = BrokerProcess.command(config)[:2]
    arguments = ["--nodaemon", "--pidfile=", f"--rundir={elsewhere}", "megabroker", "-c", "broker.yaml"]
    with open(log, "wb") as output:
        process = subprocess.Popen([*command, *arguments], cwd=tmp_path, stdout=output, stderr=output)
    try:
        wait_for(log, "is ready")
        config.write_text(config.read_text() + "logging: {level: debug}\n")
        os.kill(process.pid, signal.SIGHUP)
        wait_for(log, "configuration reloaded: logging.level")
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_ctrl_c_twice_stops_it_once(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "run.log"
    command = BrokerProcess.command(write_config(tmp_path))[:2]
    arguments = ["--nodaemon", "--pidfile=", "megabroker", "-c", "broker.yaml"]
    with open(log, "wb") as output:
        process = subprocess.Popen([*command, *arguments], cwd=tmp_path, stdout=output, stderr=output)
    try:
        wait_for(log, "is ready")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert "SIGINT received" in text
    assert "Traceback" not in text
    assert text.splitlines()[-1].endswith("megabroker has stopped")


def test_twist_is_told_to_be_twistd(tmp_path: pathlib.Path) -> None:
    write_config(tmp_path)
    twist = pathlib.Path(sys.executable).with_name("twist")
    ended = subprocess.run(
        [twist, "megabroker", "-c", "broker.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode != 0
    assert "expected twistd" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_versions_are_told(tmp_path: pathlib.Path) -> None:
    told = twistd("megabroker", "--version", cwd=tmp_path)
    assert told.returncode == 0
    assert told.stdout.startswith(f"megabroker {__version__} (Twisted ")


def wait_for(log: pathlib.Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
