"""cursus connections of clients that must say who they are, by AUTH, before all else.

    AUTH <user> <password>      ✅ Authenticated as '<user>'
                                ERROR: authentication failed        then the broker closes

The password is the rest of the text, blanks included. Before that HELP and EXIT are answered, and everything
else by ``ERROR: authentication required``; how much may be sent and how long it may take is bounded. The word
is a command on such listeners only.

As on Kafka's wire, ``handle`` stands before the class's own only while it must.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.codec.framing import FrameReader
from megabroker.errors import AuthenticationError
from megabroker.interfaces import IAuthentication
from megabroker.model import Principal
from megabroker.net.trial import Trial
from megabroker.net.wire import Answer, Room
from megabroker.protocols.cursus.codec import (
    Auth,
    Exit,
    Help,
    Refused,
    Reply,
    decode_body,
    decompress_body,
    encode_frame,
)
from megabroker.protocols.cursus.protocol import CursusConnection

if TYPE_CHECKING:
    from megabroker.protocols.cursus.protocol import CursusFactory

__all__ = ["AuthConnection"]

_log = Logger()

_LONGEST_NAME_CHARS: Final = 100


class AuthConnection(CursusConnection):
    """A connection on a listener with ``auth: required``."""

    authenticates = True

    def __init__(self, factory: CursusFactory) -> None:
        super().__init__(factory)
        assert self.broker.authentication is not None
        self._authentication: IAuthentication = self.broker.authentication
        self.handle = self._handle_first  # type: ignore[method-assign]

    def make_reader(self) -> FrameReader:
        """Take no long frames from who is nobody yet."""
        reader = super().make_reader()
        self._trial = Trial(self.broker.settings.limits, reader)
        return reader

    def _handle_first(self, event: memoryview) -> Room | None:
        """Take one frame of a client that has not authenticated."""
        if self._gate.closed:
            return self._gate
        self._trial.count(len(event))
        body = decompress_body(self.factory.compression, event, self._trial.max_bytes)
        command = decode_body(body, auth=True)
        if isinstance(command, Auth):
            self._begin(command)
        elif isinstance(command, Help | Exit) or (isinstance(command, Refused) and command.command == "AUTH"):
            self._carry_out(command)
        else:
            self._reply("AUTH", Reply.AUTH_REQUIRED)
        return None

    def _begin(self, command: Auth) -> None:
        slot = self.reserve()
        self._gate.close()
        checked = self._authentication.password(command.user, command.password)
        checked.addCallbacks(
            self._let_in, self._turn_away, callbackArgs=(slot,), errbackArgs=(slot, command.user)
        )
        checked.addErrback(self._broken)

    def _let_in(self, principal: Principal, slot: Answer) -> None:
        if self.closed:
            return
        self._trial.end()
        self.proven(principal)
        del self.handle
        text = Reply.AUTHENTICATED.format(user=principal.name)
        self.factory.log_command("AUTH", text, self.peer)
        slot.fill((encode_frame(text),))
        self._gate.open()

    def _turn_away(self, failure: Failure, slot: Answer, user: str) -> None:
        failure.trap(AuthenticationError)  # type: ignore[no-untyped-call]
        self.counts.denied += 1
        if self.closed:
            return
        slot.fill((encode_frame(Reply.AUTH_FAILED),))
        name = user[:_LONGEST_NAME_CHARS]
        self.close(f"authentication of {name!r} by AUTH failed: {failure.getErrorMessage()}")

    def _broken(self, failure: Failure) -> None:
        _log.failure("AUTH from {peer}", failure, peer=self.peer)
        self.close("internal error, logged above")
