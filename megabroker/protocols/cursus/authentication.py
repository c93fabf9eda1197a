"""cursus connections of clients that must say who they are, by AUTH, before all else.

    AUTH <user> <password>      ✅ Authenticated as '<user>'
                                ERROR: authentication failed        then the broker closes

The password is the rest of the text, blanks included. Before that HELP and EXIT are answered, and everything
else by ``ERROR: authentication required``; how much may be sent and how long it may take is bounded. The word
is a command on such listeners only. In the later dialect:

    AUTH principal=<user> token=<password>     OK principal=<user> authenticated=true
                                               ERROR: authentication_failed mechanism=PLAIN    and a close
    <any command> principal=<user> auth_token=<password> ...

As on Kafka's wire, ``handle`` stands before the class's own only while it must.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
    Later,
    LaterBatch,
    Refused,
    Reply,
    decode_body,
    decompress_body,
    encode_frame,
)
from megabroker.protocols.cursus.protocol import CursusConnection

if TYPE_CHECKING:
    from megabroker.protocols.cursus.factory import CursusFactory

__all__ = ["AuthConnection"]

_LONGEST_NAME_CHARS: Final = 100

_FIRST: Final = (Reply.AUTHENTICATED, Reply.AUTH_FAILED)
_LATER: Final = ("OK principal={user} authenticated=true", "ERROR: authentication_failed mechanism=PLAIN")


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
        if isinstance(command, Later | LaterBatch):
            return self._handle_later(command, event)
        if isinstance(command, Auth):
            self._begin(command)
        elif isinstance(command, Help | Exit) or (isinstance(command, Refused) and command.command == "AUTH"):
            self._carry_out(command)
        else:
            self.reply("AUTH", Reply.AUTH_REQUIRED)
        return None

    def _handle_later(self, command: Later | LaterBatch, event: memoryview) -> Room | None:
        """Take one command of the later dialect of a client that has not authenticated."""
        from megabroker.protocols.cursus.later.negotiating import OPEN_TO_ALL, credentials

        word, text = command if isinstance(command, Later) else ("BATCH", b"")
        said = credentials(word, text)
        if said is not None and word == "AUTH":
            self._begin(Auth(*said), _LATER)
            return None
        if said is not None:
            self._decoded = (command, 0)  # it comes again, by who it is
            self._begin(Auth(*said), None)
            return self._gate if self._gate.closed else self.handle(event)
        if word in OPEN_TO_ALL:
            self._carry_out(command)
        else:
            self.reply("AUTH", self._later_dialect().unauthenticated(word))
        return None

    def _begin(self, command: Auth, replies: tuple[str, str] | None = _FIRST) -> None:
        slot = self.reserve()
        self._gate.close()
        checked = self._authentication.password(command.user, command.password)
        checked.addCallbacks(
            self._let_in,
            self._turn_away,
            callbackArgs=(slot, replies),
            errbackArgs=(slot, command.user, replies),
        )
        checked.addErrback(self._broken)

    def _let_in(self, principal: Principal, slot: Answer, replies: tuple[str, str] | None) -> None:
        if self.closed:
            return
        self._trial.end()
        self.proven(principal)
        del self.handle
        text = "" if replies is None else replies[0].format(user=principal.name)
        self.factory.log_command("AUTH", text, self.peer)
        slot.fill((encode_frame(text),) if text else ())
        self._gate.open()

    def _turn_away(self, failure: Failure, slot: Answer, user: str, replies: tuple[str, str] | None) -> None:
        failure.trap(AuthenticationError)  # type: ignore[no-untyped-call]
        self.counts.denied += 1
        if self.closed:
            return
        slot.fill((encode_frame((replies or _LATER)[1]),))
        name = user[:_LONGEST_NAME_CHARS]
        self.close(f"authentication of {name!r} by AUTH failed: {failure.getErrorMessage()}")
