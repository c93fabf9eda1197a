"""The later dialect on one connection: commands carried out one after the other, each by its handler.

Owns what the connection has agreed on, and what its commands in hand wait for. A handler is a function
named in the table of words; its module is imported when it is first asked for. While a command is carried
out the connection's gate is closed, so that those behind it wait.

Invariant: every command is answered once, whatever its handler raises; a connection that ends, or is to end,
lets go at once of what only waits for news.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.errors import BrokerError
from megabroker.protocols.cursus.later import parsing
from megabroker.protocols.cursus.later.calling import Call, Reply
from megabroker.protocols.cursus.later.errands import Office
from megabroker.protocols.cursus.later.negotiating import STRUCTURED_ERRORS
from megabroker.protocols.cursus.later.refusals import Refusal, classified, quoted, refusal_of
from megabroker.protocols.cursus.later.words import WORDS, Word

if TYPE_CHECKING:
    from megabroker.protocols.cursus.protocol import CursusConnection

__all__ = ["Dialect"]

_log = Logger()

_BATCH: Final = Word("BATCH", "publishing.publish_batch", "A batch of messages.")
_IN_JSON: Final = "READ_STREAM"
_ERROR_CHARS: Final = len("ERROR: ")


@functools.cache
def _handler(name: str) -> Callable[..., Awaitable[Reply]]:
    module, _, function = name.partition(".")
    found: Callable[..., Awaitable[Reply]] = getattr(
        importlib.import_module(f"megabroker.protocols.cursus.later.{module}"), function
    )
    return found


class Dialect:
    """See the module.

    Attributes:
        client: the connection.
        office: has things done for it that other processes have a say in.
        features: what was agreed on.
        hurries: whether nothing should wait for news any more.
    """

    def __init__(self, client: CursusConnection) -> None:
        self.client = client
        self.office = Office(client.broker)
        self.features: frozenset[str] = frozenset()
        self.hurries = False
        self._waits: dict[Deferred[None], Any] = {}
        self._drains: list[Deferred[None]] = []

    def carry_out(self, name: str, text: bytes) -> Deferred[tuple[str, Reply]]:
        """Carry out a command; fires with its word and the reply, and never fails."""
        word = WORDS[name]
        return self._replied(word, Deferred.fromCoroutine(self._run(word, text)))

    def publish(self, body: bytes) -> Deferred[tuple[str, Reply]]:
        """Carry out a batch; as ``carry_out``."""
        call = Call(self, _BATCH, {})
        return self._replied(
            _BATCH,
            Deferred.fromCoroutine(_handler(_BATCH.handler)(call, body)),  # type: ignore[arg-type]
        )

    def unknown(self, reply: str) -> str:
        """Return the reply to an unknown command, given the one of the other dialect."""
        refusal = Refusal("unknown_command", command=quoted(reply.rpartition(": ")[2]))
        return self._shown(refusal)

    def unauthenticated(self, word: str) -> str:
        """Return the reply to a command of a client that has to say who it is first."""
        if word == "AUTH":
            return self._shown(Refusal("invalid_auth", command=word, expected=quoted(WORDS[word].syntax)))
        return self._shown(Refusal("authentication_required", command=word))

    def _shown(self, refusal: Refusal) -> str:
        return classified(refusal.text) if STRUCTURED_ERRORS in self.features else refusal.text

    async def _run(self, word: Word, text: bytes) -> Reply:
        call = Call(self, word, parsing.parse(word, text))
        call.check()
        return await _handler(word.handler)(call)

    def _replied(self, word: Word, outcome: Deferred[Reply]) -> Deferred[tuple[str, Reply]]:
        def refused(failure: Failure) -> Reply:
            error = failure.value
            if isinstance(error, BrokerError):
                error = refusal_of(error)
            elif not isinstance(error, Refusal):
                _log.failure("command-failed", failure=failure, command=word.name)
                error = Refusal("broker_error", "internal error")
            if word.name == _IN_JSON:
                told = {"error": error.text[_ERROR_CHARS:], "status": "ERROR"}
                return json.dumps(told, separators=(",", ":"), ensure_ascii=False)
            return self._shown(error)

        def named(reply: Reply) -> tuple[str, Reply]:
            return word.name, reply

        return outcome.addErrback(refused).addCallback(named)

    # --- what waits ---

    def awoken(self, seconds: float) -> Deferred[None]:
        """Return what fires after so long, or at once when nothing should wait any more."""
        done: Deferred[None] = Deferred()
        if self.hurries:
            done.callback(None)
            return done
        self._waits[done] = self.client.broker.reactor.callLater(seconds, self.forget, done)
        return done

    def forget(self, wait: Deferred[None]) -> None:
        """Have a wait end now, if it has not."""
        timer = self._waits.pop(wait, None)
        if timer is None:
            return
        if timer.active():
            timer.cancel()
        if not wait.called:
            wait.callback(None)

    def drained(self) -> Deferred[None]:
        """Return what fires when the client has read what it was sent, or nothing should wait any more."""
        done: Deferred[None] = Deferred()
        if self.hurries:
            done.callback(None)
        else:
            self._drains.append(done)
        return done

    def output_drained(self) -> None:
        """The client has read what it was sent."""
        drains, self._drains = self._drains, []
        for done in drains:
            done.callback(None)

    def hurry(self) -> None:
        """Let go of whatever only waits: the connection is to end, or has."""
        if self.hurries:
            return
        self.hurries = True
        for wait in list(self._waits):
            self.forget(wait)
        self.output_drained()
