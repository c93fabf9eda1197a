"""Share sessions: what each member of a share group fetches, and on which connection (KIP-932).

Owns the sessions of one broker, bounded in number and in partitions, all together. Knows nothing of records;
who ends a session releases what the member has acquired.

A request names the session's epoch: 0 begins a new session, in the place of one the member had; -1 ends it;
any other must be the one that comes next, so that a request that is repeated or out of turn is recognised.

Invariant: a member of a group has at most one session; every session belongs to one connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from megabroker.errors import ErrorCode, StateError

__all__ = ["FINAL_EPOCH", "INITIAL_EPOCH", "ShareSession", "ShareSessions"]

INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1

_MAX_EPOCH: Final = (1 << 31) - 1
_MAX_PLACES: Final = 200_000
"""Partitions of all sessions together; about 100 bytes each."""

Place = tuple[UUID, int]


class ShareSession:
    """One member's session.

    Attributes:
        epoch: of the next request.
        places: the partitions fetched, in the order they were named.
        owner: the connection.
        ended: whether it is over, or another has taken its place.
    """

    __slots__ = ("ended", "epoch", "group_id", "member_id", "owner", "places")

    def __init__(self, group_id: str, member_id: str, owner: object) -> None:
        self.group_id = group_id
        self.member_id = member_id
        self.epoch = 1
        self.places: dict[Place, None] = {}
        self.owner = owner
        self.ended = False


class ShareSessions:
    """All sessions of one broker.

    Attributes:
        limit: how many there may be.
        refused: how many were one too many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.refused = 0
        self._sessions: dict[tuple[str, str], ShareSession] = {}
        self._owned: dict[object, set[ShareSession]] = {}
        self._place_count = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, group_id: str, member_id: str, places: Iterable[Place], owner: object) -> ShareSession:
        """Begin a session, in the place of a former one. Raises StateError (SHARE_SESSION_LIMIT)."""
        self.end(group_id, member_id)
        if len(self._sessions) >= self.limit:
            self.refused += 1
            raise _too_many(f"there are {self.limit} share sessions already")
        session = ShareSession(group_id, member_id, owner)
        self.update(session, places, ())
        self._sessions[group_id, member_id] = session
        self._owned.setdefault(owner, set()).add(session)
        return session

    def proceed(self, group_id: str, member_id: str, epoch: int) -> ShareSession:
        """Return the session a request belongs to; its epoch goes on unless that ends it.

        Raises:
            StateError: SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH.
        """
        session = self._sessions.get((group_id, member_id))
        if session is None:
            raise StateError(ErrorCode.SHARE_SESSION_NOT_FOUND, "the member has no share session")
        if epoch == FINAL_EPOCH:
            return session
        if epoch != session.epoch:
            raise StateError(
                ErrorCode.INVALID_SHARE_SESSION_EPOCH, f"expected session epoch {session.epoch}, not {epoch}"
            )
        session.epoch = 1 if epoch == _MAX_EPOCH else epoch + 1
        return session

    def update(self, session: ShareSession, added: Iterable[Place], forgotten: Iterable[Place]) -> None:
        """Change what a session fetches; partitions already known stay where they are.

        One that is in both is forgotten: a client that gives it up may name it for its acknowledgements.

        Raises:
            StateError: SHARE_SESSION_LIMIT, and then nothing is added.
        """
        gone = set(forgotten)
        for place in gone:
            if session.places.pop(place, self) is None:
                self._place_count -= 1
        fresh = [place for place in dict.fromkeys(added) if place not in session.places and place not in gone]
        if self._place_count + len(fresh) > _MAX_PLACES:
            raise _too_many(f"share sessions have {_MAX_PLACES} partitions at most, all together")
        session.places.update(dict.fromkeys(fresh))
        self._place_count += len(fresh)

    def end(self, group_id: str, member_id: str) -> ShareSession | None:
        """Forget a member's session; return it."""
        session = self._sessions.pop((group_id, member_id), None)
        if session is not None:
            session.ended = True
            self._place_count -= len(session.places)
            owned = self._owned[session.owner]
            owned.discard(session)
            if not owned:
                del self._owned[session.owner]
        return session

    def end_all_of(self, owner: object) -> list[ShareSession]:
        """Forget the sessions of a connection that is gone; return them."""
        sessions = list(self._owned.get(owner, ()))
        for session in sessions:
            self.end(session.group_id, session.member_id)
        return sessions


def _too_many(sentence: str) -> StateError:
    return StateError(ErrorCode.SHARE_SESSION_LIMIT, sentence, retriable=True)
