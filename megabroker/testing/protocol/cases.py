"""The checks as tests: a mixin for a class of pytest's own, of unittest or of trial."""

from __future__ import annotations

import os
import unittest
from collections.abc import Sequence
from typing import ClassVar

from megabroker.testing.protocol.conformance import (
    check_closed_connections_free_all,
    check_descriptor,
    check_imports,
    check_stop_drains,
)
from megabroker.testing.protocol.conversation import Wire
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

__all__ = ["ProtocolChecks"]


class ProtocolChecks:
    """Every check there is; a subclass says what the wire is.

    ::

        class TestEchoLine(ProtocolChecks):
            wire = Wire(plugin=echo_line, conversation=[b"GET x 0\\n"], ...)
            packages = ("echo_line",)

    What needs something that the wire leaves out is skipped, and says what it needs.

    Attributes:
        wire: the protocol.
        golden: golden files.
        packages: the plugin's packages, whose imports are looked at.
    """

    wire: ClassVar[Wire]
    golden: ClassVar[Sequence[str | os.PathLike[str]]] = ()
    packages: ClassVar[Sequence[str]] = ()

    def _need(self, what: str) -> None:
        if getattr(self.wire, what) is None:
            raise unittest.SkipTest(f"needs Wire({what}=...)")

    def test_descriptor_and_factory_provide_their_interfaces(self) -> None:
        """See ``check_descriptor``."""
        check_descriptor(self.wire.plugin)

    def test_imports_only_what_plugins_may(self) -> None:
        """See ``check_imports``."""
        if not self.packages:
            raise unittest.SkipTest("needs packages = (...)")
        check_imports(*self.packages)

    def test_golden_files(self) -> None:
        """See ``check_golden``."""
        if not self.golden:
            raise unittest.SkipTest("needs golden = (...)")
        for path in self.golden:
            check_golden(self.wire, path)

    def test_every_split_of_the_bytes_comes_to_the_same(self) -> None:
        """See ``check_every_split``."""
        check_every_split(self.wire)

    def test_random_splits_of_the_bytes_come_to_the_same(self) -> None:
        """See ``check_random_splits``."""
        check_random_splits(self.wire)

    def test_real_sockets_come_to_the_same(self) -> None:
        """See ``check_sockets``."""
        check_sockets(self.wire)

    def test_a_full_queue_pauses_the_peer_and_loses_nothing(self) -> None:
        """See ``check_full_queue``."""
        self._need("store")
        check_full_queue(self.wire)

    def test_a_request_that_is_too_long_ends_its_connection(self) -> None:
        """See ``check_too_long``."""
        self._need("too_long")
        check_too_long(self.wire)

    def test_a_request_that_stays_incomplete_ends_its_connection(self) -> None:
        """See ``check_partial_frame``."""
        self._need("partial")
        check_partial_frame(self.wire)

    def test_answers_that_are_not_read_stay_bounded(self) -> None:
        """See ``check_unread_answers``."""
        self._need("read")
        check_unread_answers(self.wire)

    def test_hostile_bytes_harm_nobody(self) -> None:
        """See ``check_hostile_bytes``."""
        check_hostile_bytes(self.wire)

    def test_a_stop_answers_what_was_taken(self) -> None:
        """See ``check_stop_drains``."""
        self._need("store")
        check_stop_drains(self.wire)

    def test_a_closed_connection_leaves_nothing_behind(self) -> None:
        """See ``check_closed_connections_free_all``."""
        check_closed_connections_free_all(self.wire)
