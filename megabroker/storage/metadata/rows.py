"""Rows as text, and what waits to be committed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from crc32c import crc32c
from twisted.internet.defer import Deferred

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Change

__all__ = ["Pending", "Row", "checked", "closed_error", "decoded", "read_value", "to_rows"]

Row = tuple[str, str, str | None]


class Pending(NamedTuple):
    """What waits for the next commit.

    Attributes:
        counter: table and key of a number to be raised, and by how much.
        done: fires with what that number was, else None.
    """

    rows: list[Row]
    counter: tuple[str, str, int] | None
    done: Deferred[Any]


def decoded(texts: Mapping[str, str], keys: Collection[str] | None) -> dict[str, Any]:
    """Return the values of a table that is kept in memory as text, or those of them with ``keys``."""
    wanted = texts if keys is None else [key for key in keys if key in texts]
    return {key: json.loads(texts[key]) for key in wanted}


def to_rows(changes: Sequence[Change]) -> list[Row]:
    """Turn changes into rows at once, so that a caller may change its values later.

    Raises:
        TypeError, ValueError: a value that is not JSON-like, or a key that is not UTF-8: a mistake in code.
    """
    rows: list[Row] = []
    for table, key, value in changes:
        if not key.isascii():
            key.encode("utf-8")
        text = None if value is None else json.dumps(value, separators=(",", ":"), allow_nan=False)
        rows.append((table, key, text))
    return rows


def checked(table: str, key: str, text: str) -> str:
    """Return what is stored of a value: its text and the check of the row."""
    check = crc32c("\0".join((table, key, text)).encode())
    return f"{text}\n{check:08x}"


def read_value(table: str, key: str, stored: str) -> Any:
    """Return the value of a row. Raises ValueError: it is not what was written."""
    text, _, _ = stored.partition("\n")
    if stored != checked(table, key, text):
        raise ValueError(f"row {table}/{key} fails its check: the file is damaged")
    return json.loads(text)


def closed_error() -> StorageError:
    """Return why a store that is not open does nothing."""
    return StorageError(ErrorCode.STORAGE, "the metadata store is closed")
