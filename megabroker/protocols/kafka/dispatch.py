"""Which requests are served, at which versions, and by which handler.

Owns the one list that ApiVersions advertises and that requests are dispatched by, so that nothing is
advertised that is not implemented. A handler is a module of ``apis`` with ``handle(context, request)``
returning the response message, or an awaitable of it; it is imported when first asked for.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import attrs

from megabroker.access import Operation, ResourceType
from megabroker.interfaces import IBroker
from megabroker.model import ANONYMOUS, Node, Principal
from megabroker.protocols.kafka.changes import AUDITED, logged
from megabroker.protocols.kafka.schema.fields import Decode, Message
from megabroker.protocols.kafka.schema.registry import APIS, INTERNAL_APIS, Api

if TYPE_CHECKING:
    from megabroker.protocols.kafka.metering import Metered
    from megabroker.protocols.kafka.sasl import SaslConnection
    from megabroker.protocols.kafka.settings import KafkaSettings

__all__ = ["INTERNAL", "SERVED", "Context", "Handler", "Served"]

Handler = Callable[["Context", Any], Message | Awaitable[Message]]


@attrs.frozen
class Context:
    """What a handler knows besides the request itself.

    Attributes:
        version: the version of the request, which is also that of the answer.
        client_id: as the client calls itself; empty when it does not.
        client_host: where it is, without the port.
        listener: the name of the listener it is connected to; nodes are told to it by their addresses there.
        principal: who it is.
        sasl: the connection of a client that must say who it is; None where it need not.
        metered: what the request costs the client, if quotas limit it.
    """

    broker: IBroker
    settings: KafkaSettings
    key: int
    version: int
    client_id: str
    client_host: str
    listener: str
    principal: Principal = ANONYMOUS
    metered: Metered | None = None
    sasl: SaslConnection | None = None

    def may(
        self, operation: Operation, resource_type: ResourceType, name: str, *, quiet: bool = False
    ) -> bool:
        """Say whether the client may do something; see ``IAuthorizer.allowed``."""
        return self.broker.authorizer.allowed(
            self.principal, self.client_host, operation, resource_type, name, quiet=quiet
        )

    def operations(self, resource_type: ResourceType, name: str) -> int:
        """Return what the client may do with a resource, as bits (KIP-430)."""
        found = self.broker.authorizer.operations(self.principal, self.client_host, resource_type, name)
        return sum(1 << operation for operation in found)

    def charge(self, partitions: int) -> None:
        """Count partitions that are about to be made or deleted. Raises StateError(OVERLOADED)."""
        if self.metered is not None and self.metered.mutations is not None:
            self.metered.mutations.record(partitions)

    def address(self, node: Node) -> tuple[str, int]:
        """Return host and port of a node as this client should connect to it."""
        found = node.address("kafka", self.listener)
        return ("", -1) if found is None else found


@attrs.frozen
class Served:
    """One row: an API and what is offered of it.

    Attributes:
        first_version: lowest version advertised; those without a schema are answered by the connection.
        readers: what ``reader`` has returned, by version.
    """

    api: Api
    first_version: int
    last_version: int
    module: str
    readers: dict[int, tuple[Decode, bool]] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    def reader(self, version: int) -> tuple[Decode, bool]:
        """Return what decodes a request of this version, and whether the version is flexible."""
        found = self.readers.get(version)
        if found is None:
            found = self.readers[version] = (self.api.request.decoder(version), self.api.is_flexible(version))
        return found

    def carry_out(self, context: Context, request: Any) -> Message | Awaitable[Message]:
        """Have a request carried out, as far as the client may; without access rules that is all of it."""
        answer = self._permitted(context, request)
        return logged(context, self.api.name, request, answer) if self.api.key in AUDITED else answer

    def _permitted(self, context: Context, request: Any) -> Message | Awaitable[Message]:
        if context.broker.authorizer.enabled:
            guard = _guards().get(context.key)
            if guard is not None:
                return guard(context, request, self.handler)  # type: ignore[no-any-return]
        return self.handler(context, request)

    @property
    def handler(self) -> Handler:
        """The handler; imports its module at first use."""
        return _handler(self.module)


@functools.cache
def _handler(module: str) -> Handler:
    handle: Handler = importlib.import_module(f"megabroker.protocols.kafka.apis.{module}").handle
    return handle


@functools.cache
def _guards() -> Mapping[int, Any]:
    """Return what stands before handlers; who has no access rules needs none of it."""
    from megabroker.protocols.kafka.access.table import GUARDS

    return GUARDS


# key, first and last version advertised, module of ``apis``; 0, 1 and 78 are the connection's own.
_ROWS: Final = """
0   0 13  k00_produce
1   4 18  k01_fetch
2   0 11  k02_list_offsets
3   0 13  k03_metadata
8   0 10  k08_offset_commit
9   0 10  k09_offset_fetch
10  0  6  k10_find_coordinator
11  0  9  k11_join_group
12  0  4  k12_heartbeat
13  0  5  k13_leave_group
14  0  5  k14_sync_group
15  0  6  k15_describe_groups
16  0  5  k16_list_groups
17  0  1  k17_sasl_handshake
18  0  4  k18_api_versions
19  0  7  k19_create_topics
20  0  6  k20_delete_topics
21  0  2  k21_delete_records
22  0  6  k22_init_producer_id
23  2  4  k23_offset_for_leader_epoch
24  0  5  k24_add_partitions_to_txn
25  0  4  k25_add_offsets_to_txn
26  0  5  k26_end_txn
27  1  2  k27_write_txn_markers
28  0  5  k28_txn_offset_commit
29  0  3  k29_describe_acls
30  0  3  k30_create_acls
31  0  3  k31_delete_acls
32  0  4  k32_describe_configs
33  0  2  k33_alter_configs
34  0  2  k34_alter_replica_log_dirs
35  0  5  k35_describe_log_dirs
36  0  2  k36_sasl_authenticate
37  0  3  k37_create_partitions
38  0  3  k38_create_delegation_token
39  0  2  k39_renew_delegation_token
40  0  2  k40_expire_delegation_token
41  0  3  k41_describe_delegation_token
42  0  2  k42_delete_groups
43  0  2  k43_elect_leaders
44  0  1  k44_incremental_alter_configs
45  0  1  k45_alter_partition_reassignments
46  0  0  k46_list_partition_reassignments
47  0  0  k47_offset_delete
48  0  1  k48_describe_client_quotas
49  0  1  k49_alter_client_quotas
50  0  0  k50_describe_user_scram_credentials
51  0  0  k51_alter_user_scram_credentials
55  0  2  k55_describe_quorum
57  0  2  k57_update_features
60  0  2  k60_describe_cluster
61  0  0  k61_describe_producers
64  0  0  k64_unregister_broker
65  0  0  k65_describe_transactions
66  0  2  k66_list_transactions
68  0  1  k68_consumer_group_heartbeat
69  0  1  k69_consumer_group_describe
71  0  0  k71_get_telemetry_subscriptions
72  0  0  k72_push_telemetry
74  0  1  k74_list_config_resources
75  0  0  k75_describe_topic_partitions
76  1  1  k76_share_group_heartbeat
77  1  1  k77_share_group_describe
78  1  2  k78_share_fetch
79  1  2  k79_share_acknowledge
80  0  1  k80_add_raft_voter
81  0  0  k81_remove_raft_voter
83  0  0  k83_initialize_share_group_state
84  0  0  k84_read_share_group_state
85  0  1  k85_write_share_group_state
86  0  0  k86_delete_share_group_state
87  0  1  k87_read_share_group_state_summary
88  0  0  k88_streams_group_heartbeat
89  0  0  k89_streams_group_describe
90  0  1  k90_describe_share_group_offsets
91  0  0  k91_alter_share_group_offsets
92  0  0  k92_delete_share_group_offsets
"""


# The same of requests that processes of one broker make of each other, and nobody else may.
_INTERNAL_ROWS: Final = """
1001 0 0 k1001_follow_rows
1002 0 0 k1002_change_topic
1003 0 0 k1003_carry_out
1010 0 0 k1010_look_at_partitions
1011 0 0 k1011_admit_transactions
1012 0 0 k1012_end_transactions
1013 0 0 k1013_explain_transactions
1014 0 0 k1014_read_partition
1015 0 0 k1015_publish_messages
1016 0 0 k1016_vouch_share_group
1017 0 0 k1017_keep_share_partitions
1018 0 0 k1018_run_errand
"""


def _table(text: str, apis: Mapping[int, Api]) -> dict[int, Served]:
    rows = {}
    for row in text.strip().splitlines():
        key, first, last, module = row.split()
        rows[int(key)] = Served(apis[int(key)], int(first), int(last), module)
    return rows


SERVED: Final[Mapping[int, Served]] = MappingProxyType(_table(_ROWS, APIS))
"""Every request served, by key."""

INTERNAL: Final[Mapping[int, Served]] = MappingProxyType({**SERVED, **_table(_INTERNAL_ROWS, INTERNAL_APIS)})
"""Every request served to other processes of this broker, by key; ApiVersions does not tell of more."""
