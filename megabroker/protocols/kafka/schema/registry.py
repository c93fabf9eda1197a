"""The table of Kafka requests this broker can read and write: key, name, versions.

Owns the numbers; each row's messages live in the module of the same name and are imported when first
asked for, so that a start costs nothing for requests nobody sends. Invariant, kept by a test: key,
versions and flexible versions here are those that the message classes declare.

A row says what can be decoded and encoded, not what is served: that is for the handlers to say.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from megabroker.protocols.kafka.schema.fields import Message

__all__ = [
    "APIS",
    "API_VERSIONS",
    "INTERNAL_APIS",
    "Api",
    "api",
    "request_header_version",
    "response_header_version",
]

API_VERSIONS: Final = 18


@attrs.frozen
class Api:
    """One kind of request.

    Attributes:
        key: the number on the wire.
        name: the name that the protocol guide uses.
        module: the module of this package that holds its messages.
        first_version: the lowest version with a table.
        last_version: the highest version with a table.
        first_flexible: the lowest version with compact lengths and tagged fields, or None.
    """

    key: int
    name: str
    module: str
    first_version: int
    last_version: int
    first_flexible: int | None

    @property
    def versions(self) -> range:
        """The versions that can be decoded and encoded."""
        return range(self.first_version, self.last_version + 1)

    @property
    def request(self) -> type[Message]:
        """The request class; imports its module at first use."""
        return _messages(self.module)[0]

    @property
    def response(self) -> type[Message]:
        """The response class; imports its module at first use."""
        return _messages(self.module)[1]

    def is_flexible(self, version: int) -> bool:
        """Say whether a version, known or not, uses compact lengths and tagged fields."""
        return self.first_flexible is not None and version >= self.first_flexible


@functools.cache
def _messages(module: str) -> tuple[type[Message], type[Message]]:
    loaded = importlib.import_module(f"megabroker.protocols.kafka.schema.{module}")
    return loaded.Request, loaded.Response


_ROWS: Final = """
0   Produce                       produce                          3 13  9
1   Fetch                         fetch                            4 18 12
2   ListOffsets                   list_offsets                     0 11  6
3   Metadata                      metadata                         0 13  9
8   OffsetCommit                  offset_commit                    0 10  8
9   OffsetFetch                   offset_fetch                     0 10  6
10  FindCoordinator               find_coordinator                 0  6  3
11  JoinGroup                     join_group                       0  9  6
12  Heartbeat                     heartbeat                        0  4  4
13  LeaveGroup                    leave_group                      0  5  4
14  SyncGroup                     sync_group                       0  5  4
15  DescribeGroups                describe_groups                  0  6  5
16  ListGroups                    list_groups                      0  5  3
17  SaslHandshake                 sasl_handshake                   0  1  -
18  ApiVersions                   api_versions                     0  4  3
19  CreateTopics                  create_topics                    0  7  5
20  DeleteTopics                  delete_topics                    0  6  4
21  DeleteRecords                 delete_records                   0  2  2
22  InitProducerId                init_producer_id                 0  6  2
23  OffsetForLeaderEpoch          offset_for_leader_epoch          0  4  4
24  AddPartitionsToTxn            add_partitions_to_txn            0  5  3
25  AddOffsetsToTxn               add_offsets_to_txn               0  4  3
26  EndTxn                        end_txn                          0  5  3
27  WriteTxnMarkers               write_txn_markers                1  2  1
28  TxnOffsetCommit               txn_offset_commit                0  5  3
29  DescribeAcls                  describe_acls                    0  3  2
30  CreateAcls                    create_acls                      0  3  2
31  DeleteAcls                    delete_acls                      0  3  2
32  DescribeConfigs               describe_configs                 0  4  4
33  AlterConfigs                  alter_configs                    0  2  2
34  AlterReplicaLogDirs           alter_replica_log_dirs           0  2  2
35  DescribeLogDirs               describe_log_dirs                0  5  2
36  SaslAuthenticate              sasl_authenticate                0  2  2
37  CreatePartitions              create_partitions                0  3  2
38  CreateDelegationToken         create_delegation_token          0  3  2
39  RenewDelegationToken          renew_delegation_token           0  2  2
40  ExpireDelegationToken         expire_delegation_token          0  2  2
41  DescribeDelegationToken       describe_delegation_token        0  3  2
42  DeleteGroups                  delete_groups                    0  2  2
43  ElectLeaders                  elect_leaders                    0  2  2
44  IncrementalAlterConfigs       incremental_alter_configs        0  1  1
45  AlterPartitionReassignments   alter_partition_reassignments    0  1  0
46  ListPartitionReassignments    list_partition_reassignments     0  0  0
47  OffsetDelete                  offset_delete                    0  0  -
48  DescribeClientQuotas          describe_client_quotas           0  1  1
49  AlterClientQuotas             alter_client_quotas              0  1  1
50  DescribeUserScramCredentials  describe_user_scram_credentials  0  0  0
51  AlterUserScramCredentials     alter_user_scram_credentials     0  0  0
55  DescribeQuorum                describe_quorum                  0  2  0
57  UpdateFeatures                update_features                  0  2  0
60  DescribeCluster               describe_cluster                 0  2  0
61  DescribeProducers             describe_producers               0  0  0
64  UnregisterBroker              unregister_broker                0  0  0
65  DescribeTransactions          describe_transactions            0  0  0
66  ListTransactions              list_transactions                0  2  0
68  ConsumerGroupHeartbeat        consumer_group_heartbeat         0  1  0
69  ConsumerGroupDescribe         consumer_group_describe          0  1  0
71  GetTelemetrySubscriptions     get_telemetry_subscriptions      0  0  0
72  PushTelemetry                 push_telemetry                   0  0  0
74  ListConfigResources           list_config_resources            0  1  0
75  DescribeTopicPartitions       describe_topic_partitions        0  0  0
76  ShareGroupHeartbeat           share_group_heartbeat            1  1  1
77  ShareGroupDescribe            share_group_describe             1  1  1
78  ShareFetch                    share_fetch                      1  2  1
79  ShareAcknowledge              share_acknowledge                1  2  1
80  AddRaftVoter                  add_raft_voter                   0  1  0
81  RemoveRaftVoter               remove_raft_voter                0  0  0
82  UpdateRaftVoter               update_raft_voter                0  0  0
83  InitializeShareGroupState     initialize_share_group_state     0  0  0
84  ReadShareGroupState           read_share_group_state           0  0  0
85  WriteShareGroupState          write_share_group_state          0  1  0
86  DeleteShareGroupState         delete_share_group_state         0  0  0
87  ReadShareGroupStateSummary    read_share_group_state_summary   0  1  0
88  StreamsGroupHeartbeat         streams_group_heartbeat          0  0  0
89  StreamsGroupDescribe          streams_group_describe           0  0  0
90  DescribeShareGroupOffsets     describe_share_group_offsets     0  1  0
91  AlterShareGroupOffsets        alter_share_group_offsets        0  0  0
92  DeleteShareGroupOffsets       delete_share_group_offsets       0  0  0
"""


_INTERNAL_ROWS: Final = """
1001 FollowRows                   follow_rows                      0  0  -
1002 ChangeTopic                  change_topic                     0  0  -
1003 CarryOut                     carry_out                        0  0  -
1010 LookAtPartitions             look_at_partitions               0  0  -
1011 AdmitTransactions            admit_transactions               0  0  -
1012 EndTransactions              end_transactions                 0  0  -
1013 ExplainTransactions          explain_transactions             0  0  -
1014 ReadPartition                read_partition                   0  0  -
1015 PublishMessages              publish_messages                 0  0  -
1016 VouchShareGroup              vouch_share_group                0  0  -
1017 KeepSharePartitions          keep_share_partitions            0  0  -
1018 RunErrand                    run_errand                       0  0  -
"""


def _table(text: str) -> dict[int, Api]:
    rows = {}
    for row in text.strip().splitlines():
        key, name, module, first, last, flexible = row.split()
        rows[int(key)] = Api(
            int(key), name, module, int(first), int(last), None if flexible == "-" else int(flexible)
        )
    return rows


APIS: Final[Mapping[int, Api]] = MappingProxyType(_table(_ROWS))
"""Every known request by key."""

INTERNAL_APIS: Final[Mapping[int, Api]] = MappingProxyType(_table(_INTERNAL_ROWS))
"""Requests that the processes of one broker make of each other besides, and clients never."""


def api(key: int) -> Api | None:
    """Look up a request by its key; None when there is no table for it."""
    return APIS.get(key)


def request_header_version(key: int, version: int) -> int:
    """Say which request header leads a request: 2 when it is flexible, else 1; an unknown key has 1."""
    entry = APIS.get(key)
    return 2 if entry is not None and entry.is_flexible(version) else 1


def response_header_version(key: int, version: int) -> int:
    """Say which response header leads an answer: 1 when it is flexible, else 0; ApiVersions has always 0."""
    entry = APIS.get(key)
    return 1 if entry is not None and key != API_VERSIONS and entry.is_flexible(version) else 0
