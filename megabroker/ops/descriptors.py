"""How many files the process may have open, and how many of them are for the log."""

from __future__ import annotations

import resource

from twisted.logger import Logger

__all__ = ["spare_descriptors"]

_log = Logger()

_RESERVED = 64  # listeners, the metadata store, the log, whatever a library opens
_FEWEST = 64
_MOST = 20_000  # as many as there may be partitions by default: opening a file anew at each append costs
# more than the rest of a small request, and one that is open less than a kilobyte
_HIGHEST_LIMIT = 1 << 20
_OPEN_MAX = 10_240  # what macOS takes in any case, setrlimit(2)


def _raised(soft: int, highest: int, hard: int) -> int:
    """Raise the soft limit; as far as the system's own bound where the hard one does not say it (macOS)."""
    for wanted in (highest, min(highest, _OPEN_MAX)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return wanted
    return soft


def spare_descriptors(max_connections: int) -> int:
    """Raise this process's own limit of open files as far as it may go, and share it out.

    Args:
        max_connections: how many connections are to be possible.

    Returns:
        How many files the log may keep open, from 64 to 20,000.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = _HIGHEST_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _HIGHEST_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < highest:
        soft = _raised(soft, highest, hard)
    limit = _HIGHEST_LIMIT if soft == resource.RLIM_INFINITY else soft
    spare = limit - _RESERVED - max_connections
    if spare < _FEWEST:
        _log.warn(
            "the process may open {limit} files, too few for limits.max_connections = {connections}: "
            "expected at least {needed} (ulimit -n, or LimitNOFILE of systemd)",
            limit=limit,
            connections=max_connections,
            needed=max_connections + _RESERVED + _FEWEST,
        )
    return max(_FEWEST, min(spare, _MOST, limit // 2))
