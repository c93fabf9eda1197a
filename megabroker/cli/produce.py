"""``megabroker produce``: messages from the input or from files into a topic.

Owns the command line and the reading of the input. Lines are sent when the input pauses, so that what is
typed or comes from ``tail -f`` is there at once; a partition is chosen as Kafka's Java clients choose it.
"""

from __future__ import annotations

import os
import secrets
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, Final

import attrs
import click

from megabroker.cli.cluster import Cluster, Partition
from megabroker.cli.connecting import cluster_options
from megabroker.cli.output import human_bytes, json_option, print_json, progress
from megabroker.cli.record_forms import Input, json_input, unbase64
from megabroker.cli.topic_names import complete_topics
from megabroker.cli.writing import COMPRESSIONS, Acknowledged, Writer
from megabroker.codec.murmur import partition_of
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.errors import KafkaError

__all__ = ["produce"]

_ACKS: Final = {"0": 0, "1": 1, "all": -1}
_CHUNK_BYTES: Final = 1 << 18
_LONGEST_LINE_BYTES: Final = 64 << 20
_STICKY_RECORDS: Final = 1000


@click.command()
@click.argument("topic", shell_complete=complete_topics)
@click.argument("messages", metavar="[MESSAGE]...", nargs=-1)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.File("rb"),
    help="Read this file instead of standard input.",
)
@click.option(
    "-i",
    "--input",
    "form",
    type=click.Choice(["lines", "json", "whole"]),
    default="lines",
    show_default=True,
    help="One message per line, one JSON object per line as printed by consume --json, or the whole input as "
    "one message.",
)
@click.option("-K", "--key-separator", metavar="TEXT", help="Separator after the key in a line.")
@click.option(
    "-D",
    "--delimiter",
    default="\\n",
    metavar="TEXT",
    help="Delimiter of messages instead of the end of the line.",
)
@click.option("-k", "--key", help="Key of all messages.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME=VALUE", help="Header of all messages."
)
@click.option("-p", "--partition", type=click.IntRange(0), help="Otherwise chosen by the key, or any.")
@click.option("--base64", "in_base64", is_flag=True, help="Keys and values are in base64.")
@click.option("-Z", "--empty-is-null", is_flag=True, help="Send an empty key or value as null.")
@click.option("--tombstone", is_flag=True, help="Send a null value for --key, without reading input.")
@click.option("-z", "--compression", type=click.Choice(list(COMPRESSIONS)), default="none", show_default=True)
@click.option("--acks", type=click.Choice(list(_ACKS)), default="all", show_default=True)
@click.option("--idempotent/--no-idempotent", default=None, help="Store no message twice; the default.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing on success.")
@json_option
@cluster_options
def produce(cluster: Cluster, topic: str, quiet: bool, as_json: bool, **given: Any) -> None:
    """Write messages to TOPIC: those named, else the lines of the input or of files.

    The exit code is 0 when all of them are acknowledged.
    """
    inputs = _inputs(given)
    size_bytes = _size(given)
    acks = _ACKS[given["acks"]]
    idempotent = acks == -1 if given["idempotent"] is None else given["idempotent"]
    if idempotent and acks != -1:
        raise click.UsageError("--idempotent: requires --acks all")
    chosen = _Partitions(topic, _count(cluster, topic), given["partition"])
    tally, told = _Tally(), 0
    typed = sys.stdin.isatty() and not given["files"]
    with progress(f"to {topic}", size_bytes, wanted=not quiet and not typed) as tell:
        writer = Writer(
            cluster,
            tally.add,
            acks=acks,
            compression=COMPRESSIONS[given["compression"]],
            idempotent=idempotent,
        )
        for record in inputs:
            if record is None:
                writer.flush()
            else:
                key, value, headers, partition, timestamp_ms = record
                stamp = time.time_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms
                writer.add(chosen.of(key, partition), (key, value, headers, stamp))
            if tally.messages != told:
                told = tally.messages
                tell(0 if size_bytes is None else _position(given), tally.text)
        writer.flush()
    if as_json:
        print_json({"topic": topic, **tally.plain()})
    elif not quiet and sys.stderr.isatty():
        click.echo(tally.text, err=True)


def _count(cluster: Cluster, topic: str) -> int:
    """Return the number of partitions; a topic that is not there is made, where the broker makes topics."""
    answer = cluster.metadata([topic]).topics[0]
    deadline = time.monotonic() + 10
    while answer.error_code in (KafkaError.UNKNOWN_TOPIC_OR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE):
        answer = cluster.making_metadata(topic).topics[0]
        if not answer.error_code or time.monotonic() > deadline:
            break
        if answer.error_code == KafkaError.UNKNOWN_TOPIC_OR_PARTITION and time.monotonic() > deadline - 9:
            break
        time.sleep(0.1)
    if answer.error_code == KafkaError.UNKNOWN_TOPIC_OR_PARTITION:
        raise RequestError(
            ErrorCode.UNKNOWN_TOPIC,
            f"topic {topic} does not exist: megabroker topic create {topic} creates it",
        )
    return len(cluster.partitions([topic])[topic])


class _Partitions:
    """Chooses partitions: the one that is said, else by the hash of the key, else in turns."""

    def __init__(self, topic: str, count: int, always: int | None) -> None:
        self._topic = topic
        self._count = count
        self._always = always
        # Runs of records go to one partition; those of several commands begin with different ones.
        self._given = secrets.randbelow(count) * _STICKY_RECORDS
        if always is not None:
            self._checked(always)

    def _checked(self, number: int) -> Partition:
        if number >= self._count:
            raise RequestError(
                ErrorCode.UNKNOWN_PARTITION,
                f"topic {self._topic} has no partition {number}: expected 0 to {self._count - 1}",
            )
        return Partition(self._topic, number)

    def of(self, key: bytes | None, said: int | None) -> Partition:
        """Return the partition of a record. Raises RequestError: there is none of that number."""
        if self._always is not None:
            return Partition(self._topic, self._always)
        if said is not None:
            return self._checked(said)
        if key is not None:
            return Partition(self._topic, partition_of(key, self._count))
        self._given += 1
        return Partition(self._topic, self._given // _STICKY_RECORDS % self._count)


@attrs.define
class _Tally:
    """What was acknowledged."""

    messages: int = 0
    bytes: int = 0
    began: float = attrs.field(factory=time.monotonic)
    partitions: dict[int, int] = attrs.field(factory=dict)

    def add(self, one: Acknowledged) -> None:
        """Count a batch."""
        self.messages += one.records
        self.bytes += one.bytes
        number = one.partition.number
        self.partitions[number] = self.partitions.get(number, 0) + one.records

    @property
    def text(self) -> str:
        """How much, and how fast."""
        seconds = max(time.monotonic() - self.began, 1e-6)
        rate = f"{self.messages / seconds:,.0f}/s, {human_bytes(self.bytes / seconds)}/s"
        return f"{self.messages:,} messages, {human_bytes(self.bytes)}, {rate}"

    def plain(self) -> dict[str, Any]:
        """Return the same for JSON."""
        seconds = round(time.monotonic() - self.began, 3)
        told = {str(number): count for number, count in sorted(self.partitions.items())}
        return {"messages": self.messages, "bytes": self.bytes, "seconds": seconds, "partitions": told}


# --- what is read ---------------------------------------------------------------------------------


def _inputs(given: dict[str, Any]) -> Iterator[Input | None]:
    """Return the records of the input; None where it pauses. Raises click.UsageError."""
    headers = [_header(text) for text in given["headers"]]
    key = None if given["key"] is None else given["key"].encode()
    if given["tombstone"]:
        if key is None or given["messages"] or given["files"]:
            raise click.UsageError("--tombstone: requires --key, and no messages")
        return iter([(key, None, headers, None, None)])
    if given["messages"] and given["files"]:
        raise click.UsageError("expected messages or --file, not both")
    if given["form"] != "lines" and given["key_separator"] is not None:
        raise click.UsageError("--key-separator: requires --input lines")
    if given["in_base64"] and given["form"] == "json":
        raise click.UsageError("--base64: with JSON, use key_base64 and value_base64")
    read = _reader(given, key, headers)
    if given["messages"]:
        return _read(((text.encode(), "message") for text in given["messages"]), read)
    sources = _sources(given)
    if given["form"] == "whole":
        return _read(((source.read(), source.name) for source in sources), read)
    return _read(_lines(sources, _delimiter(given["delimiter"])), read)


def _sources(given: dict[str, Any]) -> list[IO[bytes]]:
    return given["files"] or [sys.stdin.buffer]


def _size(given: dict[str, Any]) -> int | None:
    """Return how many bytes there are to read; None where they are no files, which end who knows when."""
    if given["messages"] or given["tombstone"]:
        return None
    found = [os.fstat(source.fileno()) for source in _sources(given)]
    return sum(one.st_size for one in found) if all(stat.S_ISREG(one.st_mode) for one in found) else None


def _position(given: dict[str, Any]) -> int:
    """Return how many bytes of files have been read."""
    return sum(os.lseek(source.fileno(), 0, os.SEEK_CUR) for source in _sources(given))


def _reader(
    given: dict[str, Any], key: bytes | None, more: list[tuple[str, bytes | None]]
) -> Callable[[bytes], Input]:
    if given["form"] == "json":

        def from_json(line: bytes) -> Input:
            found, value, headers, partition, timestamp = json_input(line)
            return key if found is None else found, value, headers + more, partition, timestamp

        return from_json
    separator = None if given["key_separator"] is None else _delimiter(given["key_separator"])
    decode = (lambda data: unbase64(data, "input")) if given["in_base64"] else bytes
    null_if_empty: bool = given["empty_is_null"]

    def from_line(line: bytes) -> Input:
        found: bytes | None = None
        if separator is not None:
            head, there, tail = line.partition(separator)
            if not there:
                raise ValueError(
                    f"expected a key and {separator.decode(errors='replace')!r} before the value"
                )
            found, line = decode(head), tail
        value: bytes | None = decode(line)
        if null_if_empty:
            found, value = found or None, value or None
        return key if found is None else found, value, more, None, None

    return from_line


def _read(
    lines: Iterator[tuple[bytes | None, str]], read: Callable[[bytes], Input]
) -> Iterator[Input | None]:
    for line, where in lines:
        if line is None:
            yield None
            continue
        try:
            yield read(line)
        except ValueError as error:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"{where}: {error}") from None


def _lines(sources: Sequence[IO[bytes]], delimiter: bytes) -> Iterator[tuple[bytes | None, str]]:
    """Yield lines and where they are from, and None for a line where a source has nothing more at present."""
    for source in sources:
        number, rest = 0, b""
        while chunk := os.read(source.fileno(), _CHUNK_BYTES):
            *whole, rest = (rest + chunk).split(delimiter)
            for line in whole:
                number += 1
                yield line, f"{source.name}, line {number}"
            if len(rest) > _LONGEST_LINE_BYTES:
                raise RequestError(
                    ErrorCode.MESSAGE_TOO_LARGE,
                    f"{source.name}, line {number + 1}: expected {_LONGEST_LINE_BYTES} bytes at most",
                )
            if not select.select([source], [], [], 0)[0]:
                yield None, ""
        if rest:
            yield rest, f"{source.name}, line {number + 1}"


def _delimiter(text: str) -> bytes:
    made = text.encode().replace(b"\\n", b"\n").replace(b"\\t", b"\t").replace(b"\\0", b"\0")
    if not made:
        raise click.UsageError("expected a separator of at least one character")
    return made


def _header(text: str) -> tuple[str, bytes | None]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--header {text}: expected NAME=VALUE")
    return name, value.encode()
