"""The metadata store: small rows in SQLite, or in memory.

Owns one table, ``rows(tbl, key, value)``, and the schema version in ``PRAGMA user_version``. A value is JSON
text and, on a second line, the CRC-32C of table, key and text in hexadecimal: SQLite has no checksums, and a
bit that changed in a row would be served. Never runs a statement in the reactor thread after ``open``, except
the reads of ``rows``. The invariant: the changes of one ``write`` are committed together or not at all, and
writes are committed in the order of the calls.

Writes of one reactor turn, and those that arrive while a commit is running, share the next transaction: under
load one fsync serves many of them. The database is in WAL mode; with ``synchronous=FULL`` a commit is on the
disk, with ``NORMAL`` it survives the process but perhaps not the machine.

SQLite cannot even read without room for two small files, which an orderly close removes. So that a broker can
be started on a disk that is full, a third keeps that room while none has the file open; each of several
processes does without.

Several processes may have the file open. A row has one of them that writes it; numbers that all of them raise
are raised within a commit. They commit one at a time, and who waits for its turn looks every millisecond:
SQLite itself would look ever more rarely, and find the moments between another's commits after seconds.
"""

from __future__ import annotations

__all__ = ["database", "memory", "rows", "sqlite", "worker"]
