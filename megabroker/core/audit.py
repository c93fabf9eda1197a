"""The audit log: who was refused what, and who changed what.

One line each, in the namespace ``megabroker.audit``, with named fields. Denials are bounded, since anybody
can cause them: so many lines a second, and then one that says how many more there were. Changes are not;
whoever makes them is allowed to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.logger import Logger

from megabroker.access import Operation, ResourceType
from megabroker.model import Principal

__all__ = ["Audit"]

_log = Logger(namespace="megabroker.audit")

_LINES_A_SECOND: Final = 20
_MAX_NAMES: Final = 20
_MAX_CHARS: Final = 249


class Audit:
    """See the module.

    Args:
        seconds: the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._since = 0.0
        self._lines = 0
        self._kept_back = 0

    def denied(
        self,
        principal: Principal,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
        rule: str,
    ) -> None:
        """Somebody was refused something."""
        now = self._seconds()
        if now - self._since >= 1:
            self._since, self._lines = now, 0
            if self._kept_back:
                _log.warn("{count} more denials were not logged one by one", count=self._kept_back)
                self._kept_back = 0
        if self._lines >= _LINES_A_SECOND:
            self._kept_back += 1
            return
        self._lines += 1
        _log.warn(
            "denied: {principal} from {host}: {operation} on {resource_type} {name!r} by {rule}",
            principal=str(principal),
            host=host,
            operation=operation.name,
            resource_type=resource_type.name,
            name=name[:_MAX_CHARS],
            rule=rule,
        )

    def changed(self, principal: Principal, host: str, what: str, names: Sequence[str]) -> None:
        """Somebody has changed something.

        Args:
            what: the kind of request.
            names: what was changed.
        """
        shown = [name[:_MAX_CHARS] for name in names[:_MAX_NAMES]]
        if len(names) > _MAX_NAMES:
            shown.append(f"and {len(names) - _MAX_NAMES} more")
        _log.info(
            "changed: {principal} from {host}: {what}: {names}",
            principal=str(principal),
            host=host,
            what=what,
            names=", ".join(shown),
        )
