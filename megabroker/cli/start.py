"""``megabroker start``: a broker in the foreground, with a file or without.

Owns the command line only: it becomes twistd's, and this process becomes twistd. So there is one way in which
a broker runs, and it has imported nothing of ours.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

__all__ = ["start"]

# What Twisted imports stays; looking for garbage in it takes time. ``megabroker.tap`` has it enabled again.
_TWISTD: Final = "import gc; gc.disable(); from twisted.scripts.twistd import run; run()"
_PORTS: Final = {"kafka": 9092, "mega": 8080, "cursus": 9000}
_PORT = click.IntRange(0, 65535)


@click.command()
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=pathlib.Path),
    help="Configuration file; the defaults if not given.",
)
@click.option("--data-dir", type=click.Path(path_type=pathlib.Path), help="Data directory; default ./data.")
@click.option("--memory", is_flag=True, help="Keep all data in memory only.")
@click.option("--port", "kafka", type=_PORT, help="Port for Kafka clients; 0 for any free port.")
@click.option("--mega-port", "mega", type=_PORT, help="Port for MEGA clients.")
@click.option("--cursus-port", "cursus", type=_PORT, help="Port for cursus clients.")
@click.option("--http-port", "http", type=_PORT, help="Port of the HTTP API.")
@click.option(
    "--bind", metavar="ADDRESS", help="Address to listen on, for example 0.0.0.0; default 127.0.0.1."
)
@click.option("--advertise", metavar="HOST", help="Host name that Kafka clients use to reach this machine.")
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any key, for example topics.retention_ms=1h.",
)
@click.option("--check", is_flag=True, help="Only check the configuration, and exit.")
@click.option("--reactor", metavar="NAME", help="Twisted's reactor.")
def start(
    config: pathlib.Path | None,
    data_dir: pathlib.Path | None,
    memory: bool,
    bind: str | None,
    advertise: str | None,
    given: Sequence[str],
    check: bool,
    reactor: str | None,
    **ports: int | None,
) -> NoReturn:
    """Run a broker in the foreground until Ctrl-C.

    No file is needed: megabroker config init writes one that explains every key. Without one it serves all
    protocols, to this machine only.
    """
    if reactor is not None:
        _check_reactor(reactor)
    keys = _endpoints(config, bind, ports)
    if data_dir is not None:
        keys.append(f"data_dir={_quoted(str(data_dir))}")
    if memory:
        keys.append("storage=memory")
    if advertise is not None:
        keys.append(f"protocols.kafka.listeners[0].advertised_host={_quoted(advertise)}")
    arguments = [
        "--nodaemon",
        "--pidfile=",
        *([] if reactor is None else ["--reactor", reactor]),
        "megabroker",
    ]
    arguments += ["--defaults"] if config is None else ["-c", str(config)]
    arguments += ["--check"] if check else ["--greet"]
    for key in [*keys, *given]:
        arguments += ["--set", key]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-c", _TWISTD, *arguments])


def _check_reactor(name: str) -> None:
    """Raise UsageError unless twistd knows a reactor of this name; it would print all of its help."""
    from twisted.application.reactors import getReactorTypes

    known = sorted(one.shortName for one in getReactorTypes())
    if name not in known:
        raise click.UsageError(f"--reactor {name}: expected one of {', '.join(known)}")


def _endpoints(config: pathlib.Path | None, bind: str | None, ports: dict[str, int | None]) -> list[str]:
    http = ports.pop("http")
    administration = [] if http is None else [f"http.endpoint='tcp:{http}:interface=127.0.0.1'"]
    said = {name: port for name, port in ports.items() if port is not None}
    if config is not None and (said or bind is not None):
        raise click.UsageError(
            "with --config, set the endpoint: --set 'protocols.kafka.listeners[0].endpoint=tcp:9092'"
        )
    interface = "127.0.0.1" if bind is None else bind.replace(":", "\\:")
    if config is not None:
        return administration
    endpoints = {name: f"tcp:{said.get(name, port)}:interface={interface}" for name, port in _PORTS.items()}
    served = [f"protocols.{name}.listeners[0].endpoint={_quoted(one)}" for name, one in endpoints.items()]
    return served + administration


def _quoted(text: str) -> str:
    """Return a text as YAML reads it, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"
