"""For tests: of programs that use a broker, and of protocols that plug into one.

Nothing in here runs in a broker that was started in any other way. What it exports is imported when it is
asked for, because pytest imports this package at every start.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from megabroker.testing.embedded import EmbeddedBroker
    from megabroker.testing.faults import Fault
    from megabroker.testing.server import BrokerServer, ServerError

__all__ = ["BrokerServer", "EmbeddedBroker", "Fault", "ServerError"]

_WHERE = {
    "BrokerServer": "server",
    "EmbeddedBroker": "embedded",
    "Fault": "faults",
    "ServerError": "server",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
