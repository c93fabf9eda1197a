"""Reading the configuration file again while the broker runs.

Owns the decision whether what is read may be put in force: a file with a fault changes nothing, and neither
does one that changes a key which needs a restart. Why not is logged, by name.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from megabroker.config.diff import KeyChange, changes
from megabroker.config.schema import Config
from megabroker.errors import ConfigError

__all__ = ["described", "reread"]

_log = Logger()


def reread(current: Config, read: Callable[[], Config]) -> Config | None:
    """Return what is to be put in force, or None when nothing is. Blocking."""
    try:
        fresh = read()
    except ConfigError as error:
        _log.error("the configuration is not reloaded: {error}", error=str(error))
        return None
    fixed = [change.path for change in changes(current, fresh) if not change.reloadable]
    if fixed:
        _log.error(
            "the configuration is not reloaded: {keys} can only change with a restart",
            keys=", ".join(fixed),
        )
        return None
    return fresh


def described(found: list[KeyChange]) -> str:
    """Return what has changed, for the log."""
    return ", ".join(change.path for change in found) or "no changes"
