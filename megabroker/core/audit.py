"""The audit log: who was not let in, who was refused what, and who changed what.

One line each, in the namespace ``megabroker.audit``, with named fields. What anybody can cause is bounded:
denials to so many lines a second, and then one that says how many more there were, and refused log-ins by
address (``megabroker.core.refused_logins``). Changes are not; whoever makes them is allowed to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.logger import Logger

from megabroker.access import Operation, ResourceType
from megabroker.core.refused_logins import RefusedLogins
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
        self._refused = RefusedLogins()

    def refused(self, protocol: str, host: str, why: str) -> bool:
        """Somebody was not let in; return whether that was told, or only counted."""
        if not self._refused.is_told(host, why, self._seconds()):
            return False
        _log.warn("refused: {protocol} client from {host}: {why}", protocol=protocol, host=host, why=why)
        return True

    def tell_kept_back(self) -> None:
        """Tell what was only counted, where it is time; called once a second or so."""
        if not self._refused:
            return
        for host, count, seconds, last in self._refused.kept_back(self._seconds()):
            _log.warn(
                "refused: {count} more from {host} in {seconds} s, the last: {why}",
                count=count,
                host=host,
                seconds=round(seconds),
                why=last,
            )

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

    def changed(
        self, principal: Principal, host: str, what: str, names: Sequence[str], refusal: str = ""
    ) -> None:
        """Somebody has changed something, or wanted to who may.

        Args:
            what: the kind of request.
            names: what was changed.
            refusal: why it was not, where it was not.
        """
        shown = [name[:_MAX_CHARS] for name in names[:_MAX_NAMES]]
        if len(names) > _MAX_NAMES:
            shown.append(f"and {len(names) - _MAX_NAMES} more")
        _log.info(
            "changed: {principal} from {host}: {what}: {names}{not_done}",
            principal=str(principal),
            host=host,
            what=what,
            names=", ".join(shown),
            not_done=f": not done: {refusal}" if refusal else "",
        )
