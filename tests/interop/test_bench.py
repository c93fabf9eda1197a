"""The benchmarks themselves: that they run, count, tell, and notice what is missing."""

from __future__ import annotations

import io
import json
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from itertools import combinations
from unittest import mock

import pytest
from twisted.trial.unittest import SynchronousTestCase

from bench import __main__ as program
from bench import slow_disk, tls
from bench.peers import PEERS, Megabroker
from bench.report import Row, table
from bench.workloads import GROUPS, WORKLOADS, Sample, Workload
from bench.workloads.crossing import CROSSED, CROSSINGS
from bench.workloads.model import expect

needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None and shutil.which("cc") is None,
    reason="needs a C compiler (Debian: apt-get install gcc libc6-dev)",
)


def run(*arguments: str) -> str:
    """Run ``python -m bench`` in this process and return what it prints."""
    printed = io.StringIO()
    with (
        mock.patch("sys.argv", ["bench", *arguments]),
        redirect_stdout(printed),
        redirect_stderr(io.StringIO()),
    ):
        program.main()
    return printed.getvalue()


@needs_compiler
class RunningTests(SynchronousTestCase):
    def test_a_workload_is_measured_beside_the_limit(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory) / "found.json"
            common = ("--rounds", "2", "--share", "0.01", "--json", str(file))
            printed = run("one-pipelined", "--peers", "megabroker,limit", *common)
            found = json.loads(file.read_text())["measured"]
        self.assertEqual([one["peer"] for one in found], ["megabroker", "limit"])
        for one in found:
            self.assertEqual([sample["operations"] for sample in one["samples"]], [1000, 1000])
        lines = printed.splitlines()
        self.assertEqual(
            [line.split()[:2] for line in lines[1:]],
            [["one-pipelined", one] for one in ("megabroker", "limit")],
        )
        self.assertEqual(lines[2].split()[-1], "cpu")

    def test_real_clients_and_the_other_wires(self) -> None:
        names = [
            "client-both",
            "client-transactions",
            "mega-consume",
            "cursus-consume",
            "cursus-push",
            "recovery-1m",
        ]
        printed = run(*names, "--peers", "megabroker", "--rounds", "1", "--share", "0.005")
        self.assertEqual([line.split()[0] for line in printed.splitlines()[1:]], names)

    def test_tls_is_measured_beside_what_has_none(self) -> None:
        found = tls.measured(seconds=0.05, rounds=1)
        self.assertEqual(len(found), 4)
        for name, (plain, encrypted) in found.items():
            for cost in (*plain, *encrypted):
                self.assertGreater(min(cost), 0, name)

    def test_a_disk_can_be_held_to_less(self) -> None:
        printed = run("fetch-cold-200", "--peers", "megabroker", "--rounds", "1", "--share", "0.2")
        last = printed.splitlines()[-1]
        if last.startswith("missing: fetch-cold-200: "):
            self.skipTest(last)
        megabytes_per_second = float(last[:-1].split()[5].replace(",", ""))
        self.assertLess(megabytes_per_second, 400)

    def test_a_workload_that_cannot_be_measured_is_named_with_the_reason(self) -> None:
        with tempfile.TemporaryDirectory() as nothing:
            self.patch(slow_disk, "_GROUPS", pathlib.Path(nothing, "none"))
            printed = run("fetch-cold-200", "--peers", "megabroker", "--rounds", "2", "--share", "0.03")
        self.assertIn("missing: fetch-cold-200: a limit for what is read from a disk", printed)

    def test_a_peer_that_is_missing_is_named_with_the_reason(self) -> None:
        with mock.patch.dict("os.environ", PATH=""):
            printed = run("one-pipelined", "--peers", "redis", "--rounds", "1", "--share", "0.001")
        self.assertIn("missing: redis: redis-server", printed)


class TellingTests(SynchronousTestCase):
    def test_one_record_too_few_or_too_many_ends_the_run(self) -> None:
        peer = Megabroker()
        expect(7, 7, peer)
        for found in (6, 8):
            with self.assertRaisesRegex(AssertionError, f"megabroker has {found} records of 7"):
                expect(found, 7, peer)

    def test_ratios_are_ours_over_theirs_and_more_is_better(self) -> None:
        ours = Sample(100, 100, 1, 1.0, 1.0, 0, 100, 1, 2, 3)
        theirs = Sample(100, 100, 1, 2.0, 4.0, 0, 500, 1, 8, 3)
        for name, ratio in (
            ("one-pipelined", "4.00"),
            ("commit-128", "2.00"),
            ("latency-100", "4.00"),
            ("memory-idle", "5.00"),
        ):
            with self.subTest(name=name):
                rows = [Row(WORKLOADS[name], "megabroker", [ours]), Row(WORKLOADS[name], "kafka", [theirs])]
                line = table(rows, {}).splitlines()[-1].split()
                self.assertEqual(line[-3:-1], ["2.00", ratio])

    def test_the_spread_is_of_what_is_compared(self) -> None:
        slow, fast = (Sample(100, 100, 1, seconds, 1, 0, 100, 1, 2, 3) for seconds in (2.0, 1.0))
        for name, spread in (("commit-128", 0.5 / 0.75), ("one-pipelined", 0), ("memory-idle", 0)):
            with self.subTest(name=name):
                row = Row(WORKLOADS[name], "megabroker", [slow, fast])
                self.assertAlmostEqual(row.spread, spread)

    def test_every_workload_names_peers_that_exist_and_is_in_one_group(self) -> None:
        grouped = [one.name for group in GROUPS.values() for one in group]
        self.assertEqual(len(grouped), len(set(grouped)))
        for workload in WORKLOADS.values():
            self.assertIn("megabroker", workload.peers)
            self.assertLessEqual(set(workload.peers), set(PEERS))

    def test_few_crossings_have_all_pairs_of_settings(self) -> None:
        def pairs(workloads: Sequence[Workload]) -> set[tuple[str, str]]:
            return {pair for one in workloads for pair in combinations(one.doc.split(", "), 2)}

        self.assertEqual(len({one.name for one in CROSSINGS}), 432)
        self.assertLess(len(CROSSED), 16)
        self.assertEqual(pairs(CROSSED), pairs(CROSSINGS))

    def test_a_name_that_is_no_workload_is_refused(self) -> None:
        with self.assertRaises(SystemExit):
            run("no-such-workload")
