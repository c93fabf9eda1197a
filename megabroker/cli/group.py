"""``megabroker group``: who reads what, how far they are, and where they go on.

Owns the commands and the form of what they print; what is known of groups is read in ``group_reading``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import click

from megabroker.cli.cluster import Cluster, Partition
from megabroker.cli.command_groups import CommandGroup
from megabroker.cli.connecting import cluster_options
from megabroker.cli.group_reading import SHARE, Group, describe, list_all
from megabroker.cli.moments import END, START, Place, read_moment_ms
from megabroker.cli.offset_writing import write_offsets
from megabroker.cli.output import agreed, json_option, print_json, print_table, printable
from megabroker.cli.placing import offsets_at
from megabroker.cli.refusals import check_all
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.schema import delete_groups

__all__ = ["group"]

_KINDS: Final = ("classic", "consumer", "share", "streams")


@click.group(cls=CommandGroup)
def group() -> None:
    """Groups of consumers, of every kind: classic, consumer, share and streams."""


@group.command("list")
@click.option("--type", "kind", type=click.Choice(_KINDS), help="Only groups of this type.")
@click.option("--state", metavar="STATE", help="Only groups in this state, for example stable or empty.")
@json_option
@cluster_options
def show(cluster: Cluster, kind: str | None, state: str | None, as_json: bool) -> None:
    """List groups."""
    found = [
        one
        for one in list_all(cluster)
        if kind in (None, one.kind) and (state is None or state.lower() == one.state.lower())
    ]
    if as_json:
        print_json([{"group": one.name, "type": one.kind, "state": one.state} for one in found])
    else:
        print_table(["group", "type", "state"], [(one.name, one.kind, one.state) for one in found])


@group.command("describe")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@json_option
@cluster_options
def tell(cluster: Cluster, names: Sequence[str], as_json: bool) -> None:
    """Show the members, offsets and lag of groups."""
    found = [describe(cluster, name) for name in dict.fromkeys(names)]
    if as_json:
        print_json([_plain(one) for one in found])
        return
    for number, one in enumerate(found):
        if number:
            click.echo()
        lag = _total(one)
        click.echo(
            f"{printable(one.name)}: {one.kind}, {one.state}, {len(one.members)} members, "
            f"lag {'unknown' if lag is None else f'{lag:,}'}"
        )
        if one.progress:
            columns = ["topic", "partition", "offset", "end", "lag", "member"]
            rows = [(*row.partition, row.offset, row.end_offset, row.lag, row.member) for row in one.progress]
            print_table(columns, rows, ["partition", "offset", "end", "lag"])
        if one.members:
            members = [(it.client_id, it.host, len(it.partitions), it.id) for it in one.members]
            print_table(["client", "host", "partitions", "member id"], members, ["partitions"])


def _total(one: Group) -> int | None:
    lags = [row.lag for row in one.progress]
    return None if None in lags else sum(lag for lag in lags if lag is not None)


def _plain(one: Group) -> dict[str, Any]:
    return {
        "group": one.name,
        "type": one.kind,
        "state": one.state,
        "lag": _total(one),
        "members": [
            {
                "id": it.id,
                "client_id": it.client_id,
                "host": it.host,
                "partitions": [{"topic": at.topic, "partition": at.number} for at in it.partitions],
            }
            for it in one.members
        ],
        "partitions": [
            {
                "topic": row.partition.topic,
                "partition": row.partition.number,
                "offset": row.offset,
                "end_offset": row.end_offset,
                "lag": row.lag,
                "member": row.member,
            }
            for row in one.progress
        ],
    }


@attrs.frozen(kw_only=True)
class _Target:
    """Where a group shall go on; one of the options of the command."""

    to_earliest: bool
    to_latest: bool
    to_offset: int | None
    to_datetime: str | None
    shift_by: int | None

    def places(self, offsets: Mapping[Partition, int | None]) -> dict[Partition, Place]:
        """Return the place in each partition. Raises click.UsageError."""
        if sum((self.to_earliest, self.to_latest, *(one is not None for one in self._values))) != 1:
            raise click.UsageError(
                "expected one of --to-earliest, --to-latest, --to-offset, --to-datetime and --shift-by"
            )
        if self.shift_by is not None:
            return {
                one: Place(offset=max(0, offset + self.shift_by))
                for one, offset in offsets.items()
                if offset is not None
            }
        return dict.fromkeys(offsets, self._place())

    @property
    def _values(self) -> tuple[object, ...]:
        return self.to_offset, self.to_datetime, self.shift_by

    def _place(self) -> Place:
        if self.to_earliest or self.to_latest:
            return START if self.to_earliest else END
        if self.to_offset is not None:
            return Place(offset=self.to_offset)
        try:
            return Place(timestamp_ms=read_moment_ms(self.to_datetime or "", time.time_ns() // 1_000_000))
        except ValueError as error:
            raise click.UsageError(f"--to-datetime {self.to_datetime}: {error}") from None


@group.command()
@click.argument("name")
@click.option(
    "-t",
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC[:0,1]",
    help="Otherwise all topics with committed offsets.",
)
@click.option("--to-earliest", is_flag=True, help="To the first message.")
@click.option("--to-latest", is_flag=True, help="To the end.")
@click.option("--to-offset", type=click.IntRange(0), help="To this offset, or the nearest valid one.")
@click.option(
    "--to-datetime",
    metavar="TIME",
    help="To the first message at or after this time; -1h means one hour ago.",
)
@click.option("--shift-by", type=int, metavar="N", help="By this number of messages; negative to go back.")
@click.option("--dry-run", is_flag=True, help="Only print the new offsets.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@cluster_options
def reset(
    cluster: Cluster,
    name: str,
    topics: Sequence[str],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **target: Any,
) -> None:
    """Change the committed offsets of a group without members.

    A group that does not exist is created if --topic is given. The repartition topics of a streams group are
    only reset if --topic names them; its state stores are not reset.
    """
    known = _known(cluster, name, may_be_new=bool(topics))
    offsets = {
        row.partition: row.offset for row in known.progress if row.partition.topic not in known.repartitions
    }
    if topics:
        offsets = {one: offsets.get(one) for one in _named(cluster, topics)}
    places = _Target(**target).places(offsets)
    if not places:
        wanted = "an offset to begin from, such as --to-earliest" if topics else "--topic"
        raise RequestError(ErrorCode.INVALID_REQUEST, f"group {name} has no offsets there: expected {wanted}")
    fresh = offsets_at(cluster, places)
    rows = [
        {"topic": one.topic, "partition": one.number, "from": offsets[one], "to": fresh[one]}
        for one in sorted(fresh)
    ]
    if not as_json:
        print_table(
            ["topic", "partition", "from", "to"], [tuple(row.values()) for row in rows], ["from", "to"]
        )
    if known.members and not dry_run:
        raise RequestError(
            ErrorCode.GROUP_NOT_EMPTY, f"group {name}: it has {len(known.members)} members: stop them first"
        )
    if not dry_run:
        if not yes:
            agreed(f"have group {printable(name)} go on there?", or_else="--yes or --dry-run")
        write_offsets(cluster, name, fresh, of_share_group=known.kind == SHARE)
    if as_json:
        print_json({"group": name, "reset": not dry_run, "partitions": rows})
    else:
        click.echo(f"dry run: group {name} is unchanged" if dry_run else f"offsets of group {name} reset")


def _known(cluster: Cluster, name: str, *, may_be_new: bool) -> Group:
    try:
        return describe(cluster, name)
    except RequestError as error:
        if error.code is not ErrorCode.GROUP_NOT_FOUND or not may_be_new:
            raise
    return Group(name, "classic", "Empty", (), ())


def _named(cluster: Cluster, topics: Sequence[str]) -> list[Partition]:
    """Read TOPIC and TOPIC:0,1. Raises click.UsageError, RequestError."""
    wanted: dict[str, set[int] | None] = {}
    for text in topics:
        topic, colon, numbers = text.partition(":")
        words = numbers.split(",") if colon else []
        if not all(word.isascii() and word.isdigit() and len(word) <= 10 for word in words):
            raise click.UsageError(f"--topic {text}: expected TOPIC or TOPIC:0,1")
        wanted[topic] = set(map(int, words)) if colon else None
    found = []
    for topic, numbers_there in cluster.partitions(list(wanted)).items():
        some = wanted[topic]
        for number in some - set(numbers_there) if some else ():
            raise RequestError(ErrorCode.UNKNOWN_PARTITION, f"topic {topic} has no partition {number}")
        found += [Partition(topic, number) for number in numbers_there if some is None or number in some]
    return found


@group.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@cluster_options
def delete(cluster: Cluster, names: Sequence[str], yes: bool, as_json: bool) -> None:
    """Delete groups without members, and their committed offsets."""
    wanted = list(dict.fromkeys(names))
    if not yes:
        agreed(f"delete {', '.join(map(printable, wanted))} and all offsets of them?")
    deleted, refused = [], []
    for name in wanted:
        request = delete_groups.Request(groups_names=[name])
        answer = cluster.ask_coordinator(name, request, lambda answer: int(answer.results[0].error_code))
        code = answer.results[0].error_code
        if code:
            refused.append((code, None, f"group {name}"))
            continue
        deleted.append(name)
        if not as_json:
            click.echo(f"group {name} deleted")
    if as_json:
        print_json({"deleted": deleted})
    check_all(refused)
