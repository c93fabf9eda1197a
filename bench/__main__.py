"""Measures this broker beside others: the same client, the same data, the same durability, round by round.

    python -m bench                      everything, three rounds
    python -m bench one-pipelined fetching --peers megabroker,limit --rounds 5
    python -m bench --list               the workloads, by group; a group's name stands for all of it

Every round starts each peer anew, one after the other, so that what else the machine does falls on all alike;
compare ratios of one run, not figures of two. ``bench/README.md`` says what is measured and how.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import math
import pathlib
import sys
from collections.abc import Sequence

from bench.native import Missing
from bench.peers import PEERS
from bench.report import Row, as_json, from_json, plot, table
from bench.workloads import GROUPS, WORKLOADS, Sample, Workload


def main() -> None:
    """Run what the command line asks for."""
    wanted = _arguments()
    if wanted.list:
        for group, members in GROUPS.items():
            print(f"{group}:")
            for one in members:
                print(f"  {one.name:28} {one.doc} [{', '.join(one.peers)}; durability {one.durability}]")
        return
    names = wanted.workloads or ([] if wanted.read else GROUPS)
    workloads = [one for name in names for one in _named(name)]
    missing: dict[str, str] = {}
    rows = []
    for file in wanted.read:
        read, absent = from_json(file.read_text())
        rows += read
        missing |= absent
    for workload in workloads:
        peers = [peer for peer in workload.peers if peer in wanted.peers.split(",")]
        rows += _measured(workload, peers, wanted.rounds, wanted.share, missing)
        _keep(wanted.json, rows, missing)
    _keep(wanted.json, rows, missing)
    print(table(rows, missing, wanted.of))
    if wanted.plot is not None:
        plot(rows, wanted.plot)


def _named(name: str) -> Sequence[Workload]:
    """Return the workloads of a group, or those whose names fit a pattern."""
    return GROUPS.get(name) or [WORKLOADS[one] for one in fnmatch.filter(WORKLOADS, name)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help="or a group, or a pattern; by default all; see --list",
    )
    parser.add_argument("--list", action="store_true", help="name the workloads and end")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"some of {','.join(PEERS)}")
    parser.add_argument(
        "--of", choices=list(PEERS), default="megabroker", help="whose figures are divided by the others'"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of requests")
    parser.add_argument(
        "--read",
        type=pathlib.Path,
        metavar="FILE",
        action="append",
        default=[],
        help="tell what --json of an earlier run wrote too; measures nothing but the workloads named",
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE", help="a PNG; needs matplotlib")
    wanted = parser.parse_args()
    for name in wanted.workloads:
        if not _named(name):
            parser.error(f"{name!r}: expected some of those that --list shows, or a pattern")
    for name in wanted.peers.split(","):
        if name not in PEERS:
            parser.error(f"{name!r}: expected one of {', '.join(PEERS)}")
    if wanted.rounds < 1:
        parser.error(f"--rounds {wanted.rounds}: expected 1 or more")
    if not 0 < wanted.share < math.inf:
        parser.error(f"--share {wanted.share:g}: expected more than 0")
    if wanted.plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot: expected matplotlib to be installed (pip install matplotlib)")
    return wanted


def _keep(file: pathlib.Path | None, rows: list[Row], missing: dict[str, str]) -> None:
    """Write what is known by now; a run that is broken off keeps what it has."""
    if file is not None:
        file.write_text(as_json(rows, missing))


def _measured(
    workload: Workload, peers: list[str], rounds: int, share: float, missing: dict[str, str]
) -> list[Row]:
    """Measure all peers in turn, round by round; note which are missing, or what the workload misses."""
    samples: dict[str, list[Sample]] = {peer: [] for peer in peers}
    for number in range(rounds):
        for peer in peers:
            if peer in missing or workload.name in missing:
                continue
            print(f"{workload.name}: {peer}, round {number + 1} of {rounds}", file=sys.stderr)
            lacking = peer
            try:
                with workload.peer(peer) as started:
                    lacking = workload.name
                    samples[peer].append(workload.run(started, share))
            except Missing as reason:
                missing[lacking] = str(reason)
    return [Row(workload, peer, found) for peer, found in samples.items() if found]


if __name__ == "__main__":
    main()
