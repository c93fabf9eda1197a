"""Runs every scenario at every version that Apache Kafka's Java client knows, and counts.

``python -m tests.interop.api_sweep`` starts a broker and prints the table; with ``--bootstrap HOST:PORT`` it
asks one that runs, for example Apache Kafka itself. What is known and not offered has its reason in the table
"Not offered" of ``docs/compatibility.md``.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from tests.brokers import BrokerProcess
from tests.interop.java import TOOLS, Java
from tests.interop.sweep import cluster, data, groups, security, shares, streams, transactions
from tests.interop.sweep.exchange import SCENARIOS, Closed, Exchange, Known, Trial

__all__ = ["Result", "reasons", "report", "sweep"]

_COORDINATOR_SECONDS = 20
_COMPATIBILITY = pathlib.Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
_ROW = re.compile(r"^\| (\d+) \| (\w+) \| ([\d-]+) \| (.+) \|$")
_MODULES = (cluster, data, groups, security, shares, streams, transactions)


@attrs.frozen
class Result:
    """What became of one version of one request.

    Attributes:
        advertised: whether ApiVersions offers it.
        fault: why it did not pass; None if it passed, or was not tried because it is not offered.
    """

    known: Known
    version: int
    advertised: bool
    fault: str | None


def sweep(java: Java, bootstrap: str) -> list[Result]:
    """Try every version offered; return one result for every version known."""
    results = []
    with Exchange(java, bootstrap) as exchange:
        offered = _offered(exchange)
        topic, topic_id, node = _prepared(exchange)
        for known in exchange.known():
            if not known.client_facing:
                continue
            first, last = offered.get(known.key, (0, -1))
            for version in range(known.first, known.last + 1):
                advertised = first <= version <= last
                trial = Trial(exchange, known.key, version, topic, topic_id, node)
                results.append(Result(known, version, advertised, _tried(trial) if advertised else None))
    return results


def _offered(exchange: Exchange) -> Mapping[int, tuple[int, int]]:
    asked = {"clientSoftwareName": "sweep", "clientSoftwareVersion": "1"}
    rows = exchange.ask(18, 4, asked)["apiKeys"]
    return {row["apiKey"]: (row["minVersion"], row["maxVersion"]) for row in rows}


def _prepared(exchange: Exchange) -> tuple[str, str, int]:
    """Make the topic that most scenarios use; return its name, its id and the node's number."""
    node = exchange.ask(3, 12, {"topics": []})["brokers"][0]["nodeId"]
    trial = Trial(exchange, 0, 0, "", "", node)
    name, topic_id = data.make_topic(trial, partitions=2)
    data.fill(trial, name, topic_id, 0, ["first", "second", "third"])
    for key, version, body in (
        (8, 9, {"groupId": name, "memberId": "", "generationIdOrMemberEpoch": -1, "topics": []}),
        (22, 4, {"transactionalId": name, "transactionTimeoutMs": 60_000}),
    ):
        exchange.ask(10, 4, {"keyType": int(key == 22), "coordinatorKeys": [name]})
        deadline = time.monotonic() + _COORDINATOR_SECONDS
        while exchange.ask(key, version, body).get("errorCode", 0) and time.monotonic() < deadline:
            time.sleep(0.1)
    return name, topic_id, node


def _tried(trial: Trial) -> str | None:
    scenario = SCENARIOS.get(trial.key)
    if scenario is None:
        return "no scenario"
    try:
        scenario(trial)
    except Closed as closed:
        return str(closed)
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        place = traceback.extract_tb(error.__traceback__)
        where = next((one for one in reversed(place) if "/sweep/" in one.filename), place[-1])
        return f"{type(error).__name__} {error} in: {where.line}"
    return None


def reasons() -> dict[tuple[int, int], str]:
    """Return the reasons that the documentation gives, by key and version."""
    found = {}
    _, _, text = _COMPATIBILITY.read_text().partition("\n## Not offered\n")
    for line in text.partition("\n## ")[0].splitlines():
        row = _ROW.match(line)
        if row is not None:
            first, _, last = row[3].partition("-")
            for version in range(int(first), int(last or first) + 1):
                found[int(row[1]), version] = row[4]
    return found


def report(results: Sequence[Result]) -> Iterator[str]:
    """Return the table, a line a request, and the sum."""
    by_key: dict[int, list[Result]] = {}
    for one in results:
        by_key.setdefault(one.known.key, []).append(one)
    given = reasons()
    for key, rows in by_key.items():
        offered = [one for one in rows if one.advertised]
        passed = [one for one in offered if one.fault is None]
        known = rows[0].known
        span = _span(one.version for one in rows)
        yield f"{key:3} {known.name:<28} {span:>5} {len(passed)}/{len(offered)}/{len(rows)}"
        for one in rows:
            if one.fault is not None:
                yield f"      version {one.version}: FAILED: {one.fault}"
        missing = [one.version for one in rows if not one.advertised]
        for reason in dict.fromkeys(given.get((key, version), "NO REASON GIVEN") for version in missing):
            yield f"      not offered: {_span(missing)}: {reason}"
    offered = [one for one in results if one.advertised]
    passed = [one for one in offered if one.fault is None]
    yield f"{len(passed)} passed / {len(offered)} advertised / {len(results)} known"


def _span(versions: Iterable[int]) -> str:
    all_of_them = list(versions)
    return f"{all_of_them[0]}-{all_of_them[-1]}" if len(all_of_them) > 1 else str(all_of_them[0])


def main() -> int:
    """Print the table; return 1 if something offered did not pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", help="HOST:PORT of a running broker")
    bootstrap = parser.parse_args().bootstrap
    java = Java.of(TOOLS).compiled("ApiExchange")
    if bootstrap is not None:
        results = sweep(java, bootstrap)
    else:
        with BrokerProcess({"durability": "os"}) as broker:
            results = sweep(java, broker.kafka)
    print(*report(results), sep="\n")
    return int(any(one.fault for one in results))


if __name__ == "__main__":
    sys.exit(main())
