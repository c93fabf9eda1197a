"""The plugin seam: a protocol in a distribution of its own, installed, served and read through Kafka."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from megabroker.plugin import INTERFACE_VERSION, misfit
from tests.brokers import BrokerProcess
from tests.interop.wires import kafka_read, until

pytestmark = pytest.mark.interop

EXAMPLE = pathlib.Path(__file__).parent.parent / "plugin_example"
PROTOCOLS = ("cursus", "kafka", "mega")


class OtherEnvironment(BrokerProcess):
    """A broker started by another Python environment, or with more on its path."""

    python = sys.executable
    env: Mapping[str, str] | None = None

    def command(self, config_file: pathlib.Path) -> list[str]:  # type: ignore[override]
        return [self.python, *BrokerProcess.command(config_file)[1:]]

    def start(self, env: Mapping[str, str] | None = None) -> BrokerProcess:
        return super().start(env or self.env)


def environment(where: pathlib.Path) -> str:
    """Make a virtual environment that sees all of the present one; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(where)], check=True, timeout=60)
    python = where / "bin" / "python"
    found = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        check=True,
        capture_output=True,
        text=True,
    )
    present = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(present)]
    (pathlib.Path(found.stdout.strip()) / "present.pth").write_text("\n".join(lines) + "\n")
    return str(python)


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(params=["wheel", "editable"])
def python(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    """An interpreter in whose environment the example is installed."""
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    made = environment(tmp_path / "environment")
    # With setuptools at hand nothing is fetched; without, pip fetches that alone.
    offline = ["--no-build-isolation", "--no-index"] if importlib.util.find_spec("setuptools") else []
    if request.param == "wheel":
        pip("wheel", "--no-deps", *offline, "--wheel-dir", str(tmp_path), str(source))
        (wheel,) = tmp_path.glob("*.whl")
        pip("--python", made, "install", "--no-deps", *offline, str(wheel))
        shutil.rmtree(source)
    else:
        pip("--python", made, "install", "--no-deps", *offline, "--editable", str(source))
    return made


class Lines:
    """One connection of the example's protocol."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.file = self.socket.makefile("rwb")

    def ask(self, *lines: str) -> list[str]:
        self.file.write("".join(f"{line}\n" for line in lines).encode())
        self.file.flush()
        return [self.read() for _ in lines]

    def read(self) -> str:
        return self.file.readline().decode().rstrip("\n")


def test_third_party_protocol(python: str) -> None:
    broker = OtherEnvironment(
        {
            "protocols": {
                "echo_line": {
                    "greeting": "hello",
                    "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
                }
            }
        }
    )
    broker.python = python
    texts = [f"text number {i}" for i in range(20)]
    with broker:
        lines = Lines(broker.ports["echo_line"])
        assert lines.read() == "hello"
        assert lines.ask(*(f"PUT notes {text}" for text in texts)) == [str(i) for i in range(20)]
        assert lines.ask("GET notes 7", "GET notes 20") == [
            "text number 7",
            "ERROR offset 20 is not written yet",
        ]
        assert lines.ask("NONSENSE", "GET nowhere 0", "GET notes 3", "GET notes x")[2] == "text number 3"
        expected = [(0, i, text.encode()) for i, text in enumerate(texts)]
        assert kafka_read(broker.kafka, "notes", 20) == expected
        broker.restart()
        lines = Lines(broker.ports["echo_line"])
        assert lines.read() == "hello"
        assert lines.ask("GET notes 19", "PUT notes more") == ["text number 19", "20"]
        assert broker.stop() == 0
        assert "Traceback" not in broker.log


@pytest.fixture
def broken(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory of plugin modules, each wrong in its own way, and a good one among them."""
    plugins = tmp_path / "megabroker" / "plugins"
    plugins.mkdir(parents=True)
    modules = {
        "raises": "raise RuntimeError('out of order')",
        "exits": "import sys; sys.exit(3)",
        "syntax": "def (:",
        "needs": "import a_module_that_is_not_there",
        "future": make("future", version=INTERFACE_VERSION + 1),
        # Sorts before kafka_plugin, which must keep its name all the same.
        "a_thief": make("kafka"),
        "incomplete": "\n".join(
            [
                "from zope.interface import implementer",
                "from megabroker.interfaces import IProtocolPlugin",
                "@implementer(IProtocolPlugin)",
                "class Incomplete: pass",
                "incomplete = Incomplete()",
            ]
        ),
        "mega": make("second_mega"),
        "elsewhere": make("elsewhere", settings="no_such_module.Settings"),
        "hollow": make("hollow", factory="megabroker.protocols.mega.factory.NoSuchFactory"),
        "good": make("good"),
    }
    for name, text in modules.items():
        (plugins / f"{name}_plugin.py").write_text(textwrap.dedent(text) + "\n")
    return tmp_path


def make(
    name: str,
    version: int = 1,
    settings: str = "megabroker.protocols.mega.settings.MegaSettings",
    factory: str = "megabroker.protocols.mega.factory.MegaFactory",
) -> str:
    return f"""
        from megabroker.plugin import ProtocolPlugin
        plugin = ProtocolPlugin(
            name={name!r},
            default_endpoint="tcp:0:interface=127.0.0.1",
            settings={settings!r},
            factory={factory!r},
            version={version},
        )
        again = plugin
    """


def test_broken_plugins_are_reported_and_skipped(broken: pathlib.Path) -> None:
    broker = OtherEnvironment({"protocols": {"good": {}}})
    broker.env = {"PYTHONPATH": str(broken)}
    with broker:
        assert set(broker.ports) == {*PROTOCOLS, "good"}
        for name in ("raises", "exits", "syntax", "needs", "incomplete"):
            assert f"plugin megabroker.plugins.{name}_plugin cannot be used and is skipped" in broker.log
        newer = misfit(INTERFACE_VERSION + 1)
        assert newer is not None
        assert newer.endswith("expected a newer megabroker")
        assert f"plugin future of megabroker.plugins.future_plugin {newer}; skipped" in broker.log
        assert "plugin kafka of megabroker.plugins.a_thief_plugin has a name that is taken" in broker.log
        assert f"plugin megabroker.plugins.mega_plugin of {broken}" in broker.log
        for name in ("good", "elsewhere", "kafka_plugin of"):
            assert f"{name} has a name" not in broker.log
            assert f"{name}_plugin cannot" not in broker.log
        until(lambda: socket.create_connection(("127.0.0.1", broker.ports["good"]), 5))
        assert broker.stop() == 0


@pytest.mark.parametrize(
    ("drain", "why"),
    [
        ("def drain(self, seconds): raise RuntimeError('not yet')", "RuntimeError: not yet"),
        ("pass", "has no attribute 'drain'"),
    ],
    ids=["fails", "lacks"],
)
def test_a_plugin_that_fails_at_the_end_keeps_nothing_from_being_closed_in_order(
    broken: pathlib.Path, drain: str, why: str
) -> None:
    (broken / "stubborn.py").write_text(
        textwrap.dedent(
            f"""
            from twisted.internet.protocol import Factory
            from zope.interface import implementer
            from megabroker.interfaces import IManagedFactory

            @implementer(IManagedFactory)
            class Stubborn(Factory):
                def __init__(self, broker, settings, listener):
                    pass

                {drain}
            """
        )
    )
    place = broken / "megabroker" / "plugins" / "stubborn_plugin.py"
    place.write_text(textwrap.dedent(make("stubborn", factory="stubborn.Stubborn")))
    broker = OtherEnvironment({"protocols": {"stubborn": {}}})
    broker.env = {"PYTHONPATH": str(broken)}
    with broker:
        broker.config["logging"] = {"level": "debug"}
        (broker.directory / "broker.yaml").write_text(yaml.safe_dump(broker.config))
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        until(lambda: "logging.level" in broker.log)
        assert "Traceback" not in broker.log.partition("logging.level")[2]
        assert broker.stop() == 0
        assert why in broker.log
        assert "megabroker has stopped" in broker.log


def run_refused(broken: pathlib.Path, protocols: dict[str, Any], *arguments: str) -> str:
    """Run a broker that has to refuse; return what it says."""
    broker = BrokerProcess({"protocols": protocols})
    config = broker.directory / "broker.yaml"
    config.write_text(yaml.safe_dump(broker.config))
    done = subprocess.run(
        [*BrokerProcess.command(config), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(broken)},
        cwd=broker.directory,
    )
    assert done.returncode == 1
    return done.stdout + done.stderr


def test_a_plugin_that_is_asked_for_and_broken_is_a_fault(broken: pathlib.Path) -> None:
    said = run_refused(broken, {"elsewhere": {}, "raises": {}}, "--check")
    assert "protocols.elsewhere: " in said
    assert "no_such_module" in said
    assert "protocols.raises: a mapping of 0: expected a protocol that is installed" in said
    said = run_refused(broken, {"hollow": {}})
    assert "cannot start: the plugin of protocol hollow is broken: AttributeError: " in said
    assert "NoSuchFactory" in said
