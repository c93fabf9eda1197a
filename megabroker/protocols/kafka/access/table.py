"""The table from request to permission. Source: Apache Kafka's ``KafkaApis`` and ``ControllerApis``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from megabroker.access import Operation as O
from megabroker.access import ResourceType as R
from megabroker.protocols.kafka.access import special
from megabroker.protocols.kafka.access.guards import Guard, Need, chain, each, named, topic_by_id, whole
from megabroker.protocols.kafka.access.refusals import by_row

__all__ = ["ASKS_ITSELF", "FOR_EVERYBODY", "GUARDS"]

_NAME = named("name")
_TOPIC_NAME = named("topic_name")
_READ_GROUP = Need(O.READ, R.GROUP, "group_id")
_WRITE_ID = Need(O.WRITE, R.TRANSACTIONAL_ID, "transactional_id")
_STATES = whole(Need(O.CLUSTER_ACTION), refusal=by_row("topics", "results"))


def _describes_groups(key_type: R = R.GROUP) -> Guard:
    return chain(each(O.DESCRIBE, key_type, "group_ids", "groups"), special.hide_groups_of_hidden_topics)


GUARDS: Final[Mapping[int, Guard]] = MappingProxyType(
    {
        2: each(O.DESCRIBE, R.TOPIC, "topics", "topics", _NAME),
        8: chain(
            whole(_READ_GROUP, refusal=by_row("topics", "topics")),
            each(O.READ, R.TOPIC, "topics", "topics", topic_by_id(10)),
        ),
        11: whole(_READ_GROUP, refusal=special.refuse_join),
        12: whole(_READ_GROUP),
        13: whole(_READ_GROUP),
        14: whole(_READ_GROUP),
        15: each(O.DESCRIBE, R.GROUP, "groups", "groups"),
        19: chain(
            each(O.CREATE, R.TOPIC, "topics", "topics", _NAME, instead=O.CREATE),
            special.hide_configs_of_new_topics,
        ),
        21: each(O.DELETE, R.TOPIC, "topics", "topics", _NAME),
        22: special.init_producer_id,
        23: each(O.DESCRIBE, R.TOPIC, "topics", "topics", named("topic"), instead=O.CLUSTER_ACTION),
        24: special.add_partitions_to_txn,
        25: whole(_WRITE_ID, _READ_GROUP),
        26: whole(_WRITE_ID),
        27: special.write_txn_markers,
        28: chain(
            whole(_WRITE_ID, _READ_GROUP, refusal=by_row("topics", "topics")),
            each(O.READ, R.TOPIC, "topics", "topics", _NAME),
        ),
        29: whole(Need(O.DESCRIBE)),
        30: whole(Need(O.ALTER), refusal=by_row("creations", "results")),
        31: whole(Need(O.ALTER), refusal=by_row("filters", "filter_results")),
        34: whole(Need(O.ALTER), refusal=special.refuse_replica_log_dirs),
        35: whole(Need(O.DESCRIBE)),
        37: each(O.ALTER, R.TOPIC, "topics", "results", _NAME),
        42: each(O.DELETE, R.GROUP, "groups_names", "results"),
        43: whole(Need(O.ALTER), refusal=by_row("topic_partitions", "replica_election_results")),
        45: whole(Need(O.ALTER)),
        46: whole(Need(O.DESCRIBE)),
        47: chain(
            whole(Need(O.DELETE, R.GROUP, "group_id")),
            each(O.READ, R.TOPIC, "topics", "topics", _NAME),
        ),
        48: whole(Need(O.DESCRIBE_CONFIGS)),
        49: whole(Need(O.ALTER_CONFIGS), refusal=by_row("entries", "entries")),
        50: whole(Need(O.DESCRIBE)),
        51: whole(Need(O.ALTER), refusal=special.refuse_credentials),
        55: whole(Need(O.DESCRIBE)),
        57: whole(Need(O.ALTER)),
        61: each(O.READ, R.TOPIC, "topics", "topics", _NAME),
        64: whole(Need(O.ALTER)),
        65: chain(
            each(O.DESCRIBE, R.TRANSACTIONAL_ID, "transactional_ids", "transaction_states"),
            special.hide_topics_of_transactions,
        ),
        68: chain(whole(_READ_GROUP), special.subscribe),
        69: _describes_groups(),
        74: whole(Need(O.DESCRIBE_CONFIGS)),
        76: chain(whole(_READ_GROUP), special.subscribe),
        77: _describes_groups(),
        79: chain(
            whole(_READ_GROUP),
            each(O.READ, R.TOPIC, "topics", "responses", topic_by_id(0)),
        ),
        80: whole(Need(O.ALTER)),
        81: whole(Need(O.ALTER)),
        83: _STATES,
        84: _STATES,
        85: _STATES,
        86: _STATES,
        87: _STATES,
        88: chain(whole(_READ_GROUP), special.bring_topology),
        89: _describes_groups(),
        90: chain(
            each(O.DESCRIBE, R.GROUP, "groups", "groups", named("group_id")),
            special.hide_offsets_of_hidden_topics,
        ),
        91: chain(whole(_READ_GROUP), each(O.READ, R.TOPIC, "topics", "responses", _TOPIC_NAME)),
        92: chain(
            whole(Need(O.DELETE, R.GROUP, "group_id")),
            each(O.READ, R.TOPIC, "topics", "responses", _TOPIC_NAME),
        ),
    }
)
"""By API key, what stands before the handler."""

ASKS_ITSELF: Final = frozenset({0, 1, 3, 9, 10, 16, 20, 32, 33, 44, 60, 66, 75, 78})
"""Requests whose handlers ask, since what is refused is left out or told in a way of its own."""

FOR_EVERYBODY: Final = frozenset({17, 18, 36, 38, 39, 40, 41, 71, 72})
"""Requests that need no permission: how to talk, who one is, tokens (there are none), one's own metrics."""
