"""A harness for authors of protocols: what every wire must bear, checked on a real broker.

Say in a ``Wire`` what your protocol's bytes are, and have ``ProtocolChecks`` run them; or call the checks one
by one. They are plain functions that raise AssertionError, for pytest, trial and unittest alike, and they say
what is wrong in a protocol's own terms. ``docs/plugins.md`` is the guide.
"""

from __future__ import annotations

from megabroker.testing.protocol.cases import ProtocolChecks
from megabroker.testing.protocol.conformance import (
    check_closed_connections_free_all,
    check_descriptor,
    check_imports,
    check_stop_drains,
)
from megabroker.testing.protocol.conversation import Outcome, Wire, serving, talk
from megabroker.testing.protocol.golden import check_golden
from megabroker.testing.protocol.limits import (
    check_full_queue,
    check_hostile_bytes,
    check_partial_frame,
    check_too_long,
    check_unread_answers,
)
from megabroker.testing.protocol.sockets import check_sockets
from megabroker.testing.protocol.splits import check_every_split, check_random_splits

__all__ = [
    "Outcome",
    "ProtocolChecks",
    "Wire",
    "check_closed_connections_free_all",
    "check_descriptor",
    "check_every_split",
    "check_full_queue",
    "check_golden",
    "check_hostile_bytes",
    "check_imports",
    "check_partial_frame",
    "check_random_splits",
    "check_sockets",
    "check_stop_drains",
    "check_too_long",
    "check_unread_answers",
    "serving",
    "talk",
]
