"""A command of the later dialect in hand: its parameters, whose it is, and what its handler needs.

Owns the check of what the client may, by the command's table, and the small things that wait: a turn of the
reactor, room in a queue. Never knows what a command does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from megabroker.access import Operation, ResourceType
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker, IPartition, IRemotePartition
from megabroker.protocols.cursus.later.errands import Office
from megabroker.protocols.cursus.later.refusals import Refusal, refusal_of
from megabroker.protocols.cursus.later.words import Need, Word

if TYPE_CHECKING:
    from megabroker.protocols.cursus.later.dialect import Dialect
    from megabroker.protocols.cursus.protocol import CursusConnection

__all__ = ["Call", "Reply", "look", "room", "told", "turn", "waited"]

Reply = str | Sequence[bytes]
"""A text, or the bodies of frames."""

_PERMISSIONS: Final = {
    ResourceType.GROUP: "group",
    ResourceType.TRANSACTIONAL_ID: "transaction",
    ResourceType.CLUSTER: "admin",
}
_VERBS: Final = {Operation.READ: "read", Operation.WRITE: "write"}


class Call:
    """A command.

    Attributes:
        word: which.
        values: its parameters.
        client: the connection.
        office: has things done that other processes have a say in.
    """

    __slots__ = ("broker", "client", "dialect", "office", "values", "word")

    def __init__(self, dialect: Dialect, word: Word, values: dict[str, Any]) -> None:
        self.dialect = dialect
        self.client: CursusConnection = dialect.client
        self.broker: IBroker = self.client.broker
        self.office: Office = dialect.office
        self.word = word
        self.values = values

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def check(self) -> None:
        """Raise Refusal unless the client may do what the command needs."""
        if self.broker.authorizer.enabled:
            for need in self.word.needs:
                self.need(need.operation, need.resource_type, self.values[need.parameter])

    def need(self, operation: Operation, resource_type: ResourceType, name: str) -> None:
        """Raise Refusal unless the client may do something with one resource."""
        client = self.client
        if not self.broker.authorizer.enabled or client.may(operation, resource_type, name):
            return
        if resource_type is not ResourceType.TOPIC:
            raise Refusal(
                "NOT_AUTHORIZED_FOR_OPERATION",
                command=self.word.name,
                permission=_PERMISSIONS[resource_type],
            )
        if not client.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=True):
            raise Refusal("topic_not_found", topic=name)
        verb = _VERBS.get(operation, operation.name.lower())
        raise Refusal("NOT_AUTHORIZED_FOR_TOPIC", operation=verb, topic=name)

    def sees(self, need: Need, name: str) -> bool:
        """Whether the client may know of a resource; a refusal is not told to anybody."""
        return self.client.may(need.operation, need.resource_type, name, quiet=True)

    def changed(self, topic: str) -> None:
        """Log a change for the audit."""
        client = self.client
        self.broker.audit.changed(client.principal, client.peer_host, self.word.name, [topic])


def turn(broker: IBroker) -> Deferred[None]:
    """Return what fires in the reactor's next turn."""
    begun: Deferred[None] = Deferred()
    broker.reactor.callLater(0, begun.callback, None)
    return begun


def waited(full: Any) -> Deferred[None]:
    """Return what fires when something has room."""
    free: Deferred[None] = Deferred()
    full.when_room(lambda: free.callback(None))
    return free


async def told(ask: Callable[[Callable[[BrokerError | None], None]], Any]) -> None:
    """Wait for what calls back once, with None or an error, which is raised."""
    outcome: Deferred[BrokerError | None] = Deferred()
    ask(outcome.callback)
    error = await outcome
    if error is not None:
        raise error


async def look(partition: IPartition) -> None:
    """Have an end known that another process keeps. Raises Refusal."""
    if partition.is_here:
        return
    remote: IRemotePartition = partition  # type: ignore[assignment]
    try:
        await told(remote.look)
    except BrokerError as error:
        raise refusal_of(error) from None


async def room(partition: IPartition, messages: int, size_bytes: int) -> None:
    """Wait until a partition's queue has room; a closed partition has, and refuses what comes."""
    if size_bytes > partition.policy.max_message_bytes:
        raise RequestError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"{size_bytes} bytes together; the topic takes {partition.policy.max_message_bytes}",
        )
    while not partition.has_room(messages, size_bytes):
        await waited(partition)
