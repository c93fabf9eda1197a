"""Transactions of the later dialect: the core's, with its identities, markers and offsets.

A message is stored at once, as part of the transaction, and seen by who reads what is committed when the
transaction is; an identity has one transaction, whose end raises its epoch (KIP-890), and must be asked for
anew.

The core knows no beginning without a message or an offset, and no counts. Both are kept here by whoever
coordinates, for the last transactions, ``_MOST`` of them and ``_MOST_BYTES`` at most: who is forgotten
goes on, uncounted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import attrs
from twisted.internet.task import deferLater

from megabroker.codec.batch import build
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IBroker
from megabroker.model import Acks, CommittedOffset, ProducerIdentity, TopicPartition
from megabroker.protocols.cursus.later.batch import BatchMessage
from megabroker.protocols.cursus.later.calling import Call, Reply
from megabroker.protocols.cursus.later.errands import Carried, Errand, found_topic
from megabroker.protocols.cursus.later.publishing import append, choose_partition
from megabroker.protocols.cursus.later.records import record_of
from megabroker.protocols.cursus.later.refusals import Refusal, quoted, refusal_of

__all__ = ["begin", "end", "errands", "init_producer", "publish", "send_offsets", "status"]

_MOST: Final = 10_000
_MOST_BYTES: Final = 16 << 20
_BEGUN_BYTES: Final = 400
_PLACE_BYTES: Final = 250  # of an offset, beside the names of its group and topic
_TRANSACTIONAL: Final = 16
_TIMEOUT_MS: Final = 60_000
_TRIES: Final = 50
_RETRY_SECONDS: Final = 0.1
_LOOKS: Final = 500
_LOOK_SECONDS: Final = 0.01
_LONGEST_PRODUCER_DIGITS: Final = 19
_MAX_EPOCH: Final = (1 << 15) - 1

_OPEN: Final = "open"
_STATES: Final = {
    "Empty": "aborted",  # as the original calls an id without a transaction
    "Ongoing": _OPEN,
    "PrepareCommit": "committing",
    "PrepareAbort": "aborted",
    "CompleteCommit": "committed",
    "CompleteAbort": "aborted",
}


async def init_producer(call: Call) -> Reply:
    """INIT_PRODUCER_ID."""
    fields = await call.office.at_coordinator(call["transactional_id"], "init_producer", **call.values)
    return f"OK transactional_id={call['transactional_id']} producerId={fields['id']} epoch={fields['epoch']}"


async def begin(call: Call) -> Reply:
    """BEGIN_TXN."""
    await call.office.at_coordinator(call["transactional_id"], "begin", **call.values)
    return (
        f"OK transactional_id={call['transactional_id']} state=open producerId={call['producerId']} "
        f"epoch={call['epoch']}"
    )


async def publish(call: Call) -> Reply:
    """TXN_PUBLISH: a message of the open transaction."""
    transactional_id, key, seq = call["transactional_id"], call["key"], call["seqNum"]
    topic = found_topic(call.broker, call["topic"])
    index = choose_partition(call, topic, call["partition"], key)
    if topic.internal:
        raise Refusal("internal_topic_write_forbidden", topic=topic.name)
    if not 0 <= index < topic.partitions:
        raise Refusal("partition_not_found", partition=index)
    if call.broker.partitions.partition(topic.name, index).needs_keys and not key:
        raise Refusal("missing_key", f"{topic.name} is compacted and takes no message without a key")
    identity = _identity(call["producerId"], call["epoch"])
    who = {name: call[name] for name in ("transactional_id", "producerId", "epoch")}
    await call.office.at_coordinator(transactional_id, "check_open", **who)
    message = BatchMessage(
        0, seq, call["message"], (key or "").encode(), call["producerId"].encode(), call["epoch"]
    )
    data = build(
        [record_of(message, call.broker.now_ms())],
        producer_id=identity.producer_id,
        producer_epoch=identity.producer_epoch,
        base_sequence=seq - 1,
        attributes=_TRANSACTIONAL,
    )
    if call.broker.quotas.limits_clients:
        call.client.count_produced(len(data))
    fields = await append(
        call, topic.name, index, bytes(data), Acks.WRITTEN, transactional_id=transactional_id
    )
    if "known" not in fields:
        await call.office.at_coordinator(transactional_id, "count_message", **who)
    return f"OK transactional_id={transactional_id} staged_messages=1 topic={topic.name} partition={index}"


async def send_offsets(call: Call) -> Reply:
    """SEND_OFFSETS_TO_TXN."""
    found_topic(call.broker, call["topic"])
    values = {**call.values, "offsets": list(call["offsets"].items())}
    await call.office.at_coordinator(call["transactional_id"], "send_offsets", **values)
    return f"OK transactional_id={call['transactional_id']} staged_offsets={len(call['offsets'])}"


async def end(call: Call) -> Reply:
    """END_TXN; the same end again is answered as the first was."""
    fields = await call.office.at_coordinator(call["transactional_id"], "end", **call.values)
    return _told(call["transactional_id"], fields)


async def status(call: Call) -> Reply:
    """TXN_STATUS."""
    fields = await call.office.at_coordinator(call["transactional_id"], "txn_status", **call.values)
    return _told(call["transactional_id"], fields)


def _told(transactional_id: str, fields: Mapping[str, Any]) -> str:
    return (
        f"OK transactional_id={transactional_id} state={fields['state']} "
        f"messages={fields['messages']} offsets={fields['offsets']}"
    )


def _identity(producer_id: str, epoch: int) -> ProducerIdentity:
    """Return an identity as INIT_PRODUCER_ID gave it. Raises Refusal for what it never gave."""
    if not (producer_id.isascii() and producer_id.isdigit()) or len(producer_id) > _LONGEST_PRODUCER_DIGITS:
        raise Refusal("producer_fenced", producer=quoted(producer_id))
    if not 0 <= epoch <= _MAX_EPOCH:
        raise Refusal("invalid_epoch", value=epoch)
    return ProducerIdentity(int(producer_id), epoch)


# --- where transactions are coordinated ------------------------------------------------------------


@attrs.define
class _Begun:
    """A transaction that was begun.

    Attributes:
        state: what its end came to; open before.
        offsets: how many places have one.
        places: which, until its end.
        size_bytes: about what it takes.
    """

    identity: ProducerIdentity
    size_bytes: int
    state: str = _OPEN
    messages: int = 0
    offsets: int = 0
    places: set[tuple[str, str, int]] = attrs.field(factory=set)


class _Transactions:
    def __init__(self, broker: IBroker) -> None:
        self._broker = broker
        self._transactions = broker.transactions
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._size_bytes = 0

    async def init_producer(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Give an identity, once what was open is aborted."""
        transactional_id = fields["transactional_id"]
        self._drop(transactional_id)
        for left in reversed(range(_TRIES)):
            try:
                identity = await self._transactions.init_producer(transactional_id, _TIMEOUT_MS, None)
                return {"id": identity.producer_id, "epoch": identity.producer_epoch}, b""
            except BrokerError as error:
                if error.code is not ErrorCode.CONCURRENT_TRANSACTIONS or not left:
                    raise refusal_of(error, "init_producer_failed") from None
            await deferLater(self._broker.reactor, _RETRY_SECONDS)
        raise AssertionError("not reached")

    async def begin(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Begin, if the identity is the present one and has no transaction yet."""
        transactional_id, identity = self._asked(fields)
        found = self._transactions.describe(transactional_id)
        if found is None:
            raise Refusal("transaction_not_found", "ask for an identity by INIT_PRODUCER_ID first")
        begun = self._begun.get(transactional_id)
        present = ProducerIdentity(found.producer_id, found.producer_epoch)
        if begun is not None and begun.identity == identity and begun.state != _OPEN:
            raise Refusal(
                "producer_reinitialization_required",
                transactional_id=transactional_id,
                epoch=identity.producer_epoch,
            )
        if identity != present:
            if identity.producer_id == present.producer_id and (
                identity.producer_epoch == present.producer_epoch - 1 and _STATES.get(found.state) != _OPEN
            ):
                raise Refusal(
                    "producer_reinitialization_required",
                    transactional_id=transactional_id,
                    epoch=identity.producer_epoch,
                )
            raise Refusal(
                "producer_fenced",
                transactional_id=transactional_id,
                current_epoch=present.producer_epoch,
                requested_epoch=identity.producer_epoch,
            )
        if _STATES.get(found.state) == _OPEN or begun is not None:
            raise Refusal("transaction_begin_failed", f"transaction {transactional_id} is open already")
        self._keep(transactional_id, identity)
        return {}, b""

    async def check_open(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Refuse a message that is not part of the open transaction."""
        self._open(fields, "transaction_publish_failed")
        return {}, b""

    async def count_message(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Take note of a message that is stored."""
        transactional_id, identity = self._asked(fields)
        begun = self._begun.get(transactional_id)
        if begun is not None and begun.identity == identity:
            begun.messages += 1
        return {}, b""

    async def send_offsets(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Make offsets part of the open transaction."""
        transactional_id, identity = self._asked(fields)
        begun = self._open(fields, "transaction_offsets_failed")
        topic, group = fields["topic"], fields["group"]
        offsets = {
            TopicPartition(topic, index): CommittedOffset(offset) for index, offset in fields["offsets"]
        }
        try:
            stored = await self._transactions.commit_offsets(
                transactional_id,
                identity,
                group,
                fields["generation"],
                fields["member"],
                None,
                offsets,
                implicit=True,
            )
        except BrokerError as error:
            raise refusal_of(error, "transaction_offsets_failed") from None
        for place, code in stored.items():
            if code is not None:
                raise Refusal("transaction_offsets_failed", code.value, partition=place.partition)
        fresh = {(group, topic, place.partition) for place in stored} - begun.places
        begun.places |= fresh
        begun.offsets = len(begun.places)
        self._grow(transactional_id, begun, len(fresh) * (_PLACE_BYTES + len(group) + len(topic)))
        return {}, b""

    async def end(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Commit or abort; a transaction that nothing was added to is ended here alone."""
        transactional_id, identity = self._asked(fields)
        commits = fields["result"] == "commit"
        wanted = "committed" if commits else "aborted"
        begun = self._begun.get(transactional_id)
        if begun is not None and begun.identity != identity:
            begun = None
        if begun is not None and begun.state != _OPEN:
            return self._ended_before(transactional_id, begun.state, wanted, begun), b""
        found = self._transactions.describe(transactional_id)
        if found is None:
            raise Refusal("transaction_not_found", f"there is no transactional id {transactional_id}")
        is_present = identity == (found.producer_id, found.producer_epoch)
        if not (begun is not None and is_present and _STATES.get(found.state) != _OPEN):
            await self._ended(transactional_id, identity, commits, found.state)
        if begun is None:
            return {"state": wanted, "messages": 0, "offsets": 0}, b""
        self._close(transactional_id, begun, wanted)
        return self._counted(begun), b""

    async def _ended(
        self, transactional_id: str, identity: ProducerIdentity, commits: bool, state: str
    ) -> None:
        try:
            await self._transactions.end(transactional_id, identity, commits, bump_epoch=True)
        except BrokerError as error:
            if error.code is ErrorCode.INVALID_TXN_STATE:
                self._ended_before(transactional_id, _STATES.get(state, _OPEN), "", None)
            raise refusal_of(error, "transaction_commit_failed", transactional_id=transactional_id) from None
        # It is decided; who asks next is to see it.
        for _ in range(_LOOKS):
            found = self._transactions.describe(transactional_id)
            if found is None or not found.state.startswith("Prepare"):
                return
            await deferLater(self._broker.reactor, _LOOK_SECONDS)

    def _ended_before(
        self, transactional_id: str, state: str, wanted: str, begun: _Begun | None
    ) -> Mapping[str, Any]:
        """Return how it ended, if that is what is wanted."""
        if state == wanted and begun is not None:
            return self._counted(begun)
        codes = {"committed": "transaction_already_committed", "aborted": "transaction_aborted"}
        raise Refusal(codes.get(state, "transaction_not_abortable"), transactional_id=transactional_id)

    async def txn_status(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Say how the last transaction is."""
        transactional_id = fields["transactional_id"]
        found = self._transactions.describe(transactional_id)
        if found is None:
            raise Refusal("transaction_not_found", f"there is no transactional id {transactional_id}")
        begun = self._begun.get(transactional_id)
        state = _STATES.get(found.state, _OPEN)
        if begun is None:
            return {"state": state, "messages": 0, "offsets": 0}, b""
        if (
            begun.state == _OPEN
            and state != _OPEN
            and found.state != "Empty"
            and (begun.identity != (found.producer_id, found.producer_epoch))
        ):
            self._close(transactional_id, begun, state)  # its time was up
        return self._counted(begun), b""

    def _asked(self, fields: Mapping[str, Any]) -> tuple[str, ProducerIdentity]:
        return fields["transactional_id"], _identity(fields["producerId"], fields["epoch"])

    def _open(self, fields: Mapping[str, Any], code: str) -> _Begun:
        """Return the open transaction. Raises Refusal unless it is this identity's."""
        transactional_id, identity = self._asked(fields)
        begun = self._begun.get(transactional_id)
        found = self._transactions.describe(transactional_id)
        if found is None:
            raise Refusal("transaction_not_found", f"there is no transactional id {transactional_id}")
        if identity != (found.producer_id, found.producer_epoch):
            raise Refusal(
                "producer_fenced",
                transactional_id=transactional_id,
                current_epoch=found.producer_epoch,
                requested_epoch=identity.producer_epoch,
            )
        if begun is not None and begun.identity == identity and begun.state == _OPEN:
            self._begun.move_to_end(transactional_id)
            return begun
        if _STATES.get(found.state) != _OPEN:
            raise Refusal(code, f"transaction {transactional_id} is not open; begin it by BEGIN_TXN")
        return self._keep(transactional_id, identity)

    # --- what is kept of them ---

    def _keep(self, transactional_id: str, identity: ProducerIdentity) -> _Begun:
        self._drop(transactional_id)
        begun = self._begun[transactional_id] = _Begun(identity, 0)
        self._grow(transactional_id, begun, _BEGUN_BYTES + len(transactional_id))
        return begun

    def _grow(self, transactional_id: str, begun: _Begun, size_bytes: int) -> None:
        """Count what a transaction takes, and forget the ones used last of all where that is too much."""
        if self._begun.get(transactional_id) is not begun:
            return  # forgotten meanwhile
        begun.size_bytes += size_bytes
        self._size_bytes += size_bytes
        while len(self._begun) > _MOST or (self._size_bytes > _MOST_BYTES and len(self._begun) > 1):
            self._drop(next(iter(self._begun)))

    def _drop(self, transactional_id: str) -> None:
        begun = self._begun.pop(transactional_id, None)
        if begun is not None:
            self._size_bytes -= begun.size_bytes

    def _close(self, transactional_id: str, begun: _Begun, state: str) -> None:
        """Take note of an end; which places have offsets matters no more."""
        begun.state = state
        begun.places = set()
        self._grow(transactional_id, begun, _BEGUN_BYTES + len(transactional_id) - begun.size_bytes)

    def _counted(self, begun: _Begun) -> Mapping[str, Any]:
        return {"state": begun.state, "messages": begun.messages, "offsets": begun.offsets}


def errands(broker: IBroker) -> Mapping[str, Errand]:
    """Return what is carried out where transactions are coordinated."""
    transactions = _Transactions(broker)
    return {
        "init_producer": transactions.init_producer,
        "begin": transactions.begin,
        "check_open": transactions.check_open,
        "count_message": transactions.count_message,
        "send_offsets": transactions.send_offsets,
        "end": transactions.end,
        "txn_status": transactions.txn_status,
    }
