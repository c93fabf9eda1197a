import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.QuorumInfo;
import org.apache.kafka.clients.admin.RaftVoterEndpoint;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.errors.BrokerIdNotRegisteredException;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.LogDirNotFoundException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.ResourceNotFoundException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.errors.UnsupportedByAuthenticationException;
import org.apache.kafka.common.errors.UnsupportedSaslMechanismException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** Every call of Kafka's administration client. */
public final class AdminScenarios {
    private static Admin admin;

    public static void main(String[] args) {
        Scenarios.bootstrap = args[0];
        admin = Scenarios.admin();
        Map<String, Scenarios.Scenario> all = new LinkedHashMap<>();
        all.put("topics", AdminScenarios::topics);
        all.put("topic_refusals", AdminScenarios::topicRefusals);
        all.put("topic_configs", AdminScenarios::topicConfigs);
        all.put("broker_configs", AdminScenarios::brokerConfigs);
        all.put("offsets_and_records", AdminScenarios::offsetsAndRecords);
        all.put("groups", AdminScenarios::groups);
        all.put("group_members", AdminScenarios::groupMembers);
        all.put("transactions", AdminScenarios::transactions);
        all.put("log_dirs", AdminScenarios::logDirs);
        all.put("replicas", AdminScenarios::replicas);
        all.put("cluster", AdminScenarios::cluster);
        all.put("client_metrics", AdminScenarios::clientMetrics);
        all.put("nobody", AdminScenarios::nobody);
        Scenarios.run(args[0], all);
    }

    private static void topics() throws Exception {
        String name = Scenarios.unique("topic");
        NewTopic topic = new NewTopic(name, Optional.of(2), Optional.empty()).configs(Map.of("retention.ms", "777"));
        admin.createTopics(List.of(topic), new CreateTopicsOptions().validateOnly(true)).all().get();
        CreateTopicsResult made = admin.createTopics(List.of(topic));
        Uuid id = made.topicId(name).get();
        Scenarios.equal(made.numPartitions(name).get(), 2);
        Scenarios.equal(made.replicationFactor(name).get(), 1);
        Scenarios.equal(made.config(name).get().get("retention.ms").value(), "777");
        Scenarios.check(admin.listTopics().names().get().contains(name), "not listed");
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(5))).all().get();
        DescribeTopicsOptions pages = new DescribeTopicsOptions().partitionSizeLimitPerResponse(2)
            .includeAuthorizedOperations(true);
        TopicDescription found = admin.describeTopics(TopicCollection.ofTopicNames(List.of(name)), pages)
            .allTopicNames().get().get(name);
        Scenarios.equal(found.partitions().size(), 5);
        Scenarios.equal(found.topicId(), id);
        Scenarios.check(found.authorizedOperations().contains(AclOperation.ALTER_CONFIGS), found);
        Scenarios.check(found.partitions().get(4).leader() != null, found);
        Scenarios.equal(admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name(), name);
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        Scenarios.check(!admin.listTopics().names().get().contains(name), "still listed");
        String other = Scenarios.topic(1);
        admin.deleteTopics(List.of(other)).all().get();
    }

    private static void topicRefusals() throws Exception {
        String name = Scenarios.topic(2);
        Scenarios.fails(admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all(), TopicExistsException.class);
        Scenarios.fails(admin.createTopics(List.of(new NewTopic("no/such", 1, (short) 1))).all(), InvalidTopicException.class);
        Scenarios.fails(admin.createTopics(List.of(new NewTopic(name + "x", 0, (short) 1))).all(), InvalidPartitionsException.class);
        Scenarios.fails(admin.createTopics(List.of(new NewTopic(name + "x", 1, (short) 3))).all(),
            InvalidReplicationFactorException.class);
        Scenarios.fails(admin.createTopics(List.of(new NewTopic(name + "x", Map.of(0, List.of(4711))))).all(),
            InvalidReplicaAssignmentException.class);
        Scenarios.fails(admin.createTopics(List.of(new NewTopic(name + "x", 1, (short) 1).configs(Map.of("no.such", "1")))).all(),
            InvalidConfigurationException.class);
        Scenarios.fails(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(1))).all(), InvalidPartitionsException.class);
        Scenarios.fails(admin.describeTopics(List.of(name + "x")).allTopicNames(), UnknownTopicOrPartitionException.class);
        Scenarios.fails(admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds(),
            UnknownTopicIdException.class);
        Scenarios.fails(admin.deleteTopics(List.of(name + "x")).all(), UnknownTopicOrPartitionException.class);
    }

    private static void topicConfigs() throws Exception {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, Scenarios.topic(1));
        alter(topic, AlterConfigOp.OpType.SET, "retention.ms", "1234");
        alter(topic, AlterConfigOp.OpType.APPEND, "cleanup.policy", "compact");
        Config found = describe(topic);
        Scenarios.equal(found.get("retention.ms").value(), "1234");
        Scenarios.equal(found.get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        Scenarios.equal(found.get("retention.ms").type(), ConfigEntry.ConfigType.LONG);
        Scenarios.check(!found.get("retention.ms").isReadOnly(), "read only");
        Scenarios.check(found.get("retention.ms").documentation().length() > 10, "no documentation");
        Scenarios.equal(new TreeSet<>(List.of(found.get("cleanup.policy").value().split(","))), new TreeSet<>(Set.of("compact", "delete")));
        alter(topic, AlterConfigOp.OpType.SUBTRACT, "cleanup.policy", "delete");
        alter(topic, AlterConfigOp.OpType.DELETE, "retention.ms", null);
        found = describe(topic);
        Scenarios.equal(found.get("cleanup.policy").value(), "compact");
        Scenarios.check(found.get("retention.ms").isDefault(), found.get("retention.ms"));
        Collection<AlterConfigOp> wrong = List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "soon"), AlterConfigOp.OpType.SET));
        Scenarios.fails(admin.incrementalAlterConfigs(Map.of(topic, wrong), new AlterConfigsOptions().validateOnly(true)).all(),
            InvalidConfigurationException.class);
        Scenarios.check(admin.listConfigResources(Set.of(ConfigResource.Type.TOPIC), new org.apache.kafka.clients.admin.ListConfigResourcesOptions())
            .all().get().contains(topic), "not listed");
    }

    private static void brokerConfigs() throws Exception {
        String node = Integer.toString(admin.describeCluster().controller().get().id());
        Config found = describe(new ConfigResource(ConfigResource.Type.BROKER, node));
        Scenarios.equal(found.get("node.id").value(), node);
        Scenarios.check(found.get("node.id").isReadOnly(), "not read only");
        Scenarios.equal(found.get("log.retention.ms").type(), ConfigEntry.ConfigType.LONG);
        Scenarios.check(found.get("advertised.listeners").value().contains("127.0.0.1"), found.get("advertised.listeners"));
        Scenarios.check(found.get("num.partitions").documentation().length() > 10, "no documentation");
        Scenarios.check(!admin.describeConfigs(List.of(new ConfigResource(ConfigResource.Type.BROKER, ""))).all().get().isEmpty(),
            "no cluster-wide defaults");
    }

    private static void alter(ConfigResource resource, AlterConfigOp.OpType how, String name, String value) throws Exception {
        admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(name, value), how)))).all().get();
    }

    private static Config describe(ConfigResource resource) throws Exception {
        DescribeConfigsOptions everything = new DescribeConfigsOptions().includeDocumentation(true).includeSynonyms(true);
        return admin.describeConfigs(List.of(resource), everything).all().get().get(resource);
    }

    private static void offsetsAndRecords() throws Exception {
        TopicPartition partition = new TopicPartition(Scenarios.topic(1), 0);
        try (KafkaProducer<String, String> producer = Scenarios.producer(Map.of())) {
            for (long time : new long[] {1_000, 3_000, 2_000})
                producer.send(new ProducerRecord<>(partition.topic(), 0, time, "k", "v")).get();
        }
        Scenarios.equal(offset(partition, OffsetSpec.earliest()), 0L);
        Scenarios.equal(offset(partition, OffsetSpec.latest()), 3L);
        Scenarios.equal(offset(partition, OffsetSpec.maxTimestamp()), 1L);
        Scenarios.equal(offset(partition, OffsetSpec.forTimestamp(1_500)), 1L);
        Scenarios.equal(offset(partition, OffsetSpec.forTimestamp(9_000)), -1L);
        Scenarios.equal(offset(partition, OffsetSpec.earliestLocal()), 0L);
        Scenarios.equal(offset(partition, OffsetSpec.latestTiered()), -1L);
        Scenarios.equal(offset(partition, OffsetSpec.earliestPendingUpload()), -1L);
        Scenarios.equal(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(2)))
            .lowWatermarks().get(partition).get().lowWatermark(), 2L);
        Scenarios.equal(offset(partition, OffsetSpec.earliest()), 2L);
        Scenarios.fails(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(9))).all(), OffsetOutOfRangeException.class);
    }

    private static long offset(TopicPartition partition, OffsetSpec which) throws Exception {
        ListOffsetsResultInfo found = admin.listOffsets(Map.of(partition, which)).partitionResult(partition).get();
        return found.offset();
    }

    private static void groups() throws Exception {
        TopicPartition partition = new TopicPartition(Scenarios.topic(1), 0);
        String group = Scenarios.unique("group");
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(0, Optional.empty(), "note"))).all().get();
        Map<TopicPartition, OffsetAndMetadata> stored = admin.listConsumerGroupOffsets(
            Map.of(group, new ListConsumerGroupOffsetsSpec())).partitionsToOffsetAndMetadata(group).get();
        Scenarios.equal(stored.get(partition).metadata(), "note");
        Collection<GroupListing> listed = admin.listGroups(
            new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY)).withTypes(Set.of(GroupType.CLASSIC))).all().get();
        Scenarios.check(listed.stream().anyMatch(one -> one.groupId().equals(group)), listed);
        listed = admin.listGroups(new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE))).all().get();
        Scenarios.check(listed.stream().noneMatch(one -> one.groupId().equals(group)), listed);
        Scenarios.equal(admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState(), GroupState.EMPTY);
        Scenarios.equal(admin.describeClassicGroups(List.of(group)).all().get().get(group).state().toString(), "Empty");
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        stored = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        Scenarios.check(stored.get(partition) == null, stored);
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(0))).all().get();
        admin.deleteConsumerGroups(List.of(group)).all().get();
        Scenarios.fails(admin.deleteConsumerGroups(List.of(group)).all(), GroupIdNotFoundException.class);
        Scenarios.fails(admin.describeConsumerGroups(List.of(group)).all(), GroupIdNotFoundException.class);
    }

    private static void groupMembers() throws Exception {
        String topic = Scenarios.topic(2);
        for (String protocol : List.of("classic", "consumer")) {
            String group = Scenarios.unique("group");
            try (KafkaConsumer<String, String> consumer = Scenarios.consumer(Map.of(
                     "group.id", group, "group.protocol", protocol, "group.instance.id", "one"))) {
                consumer.subscribe(List.of(topic));
                Scenarios.until(() -> {
                    consumer.poll(Scenarios.A_WHILE);
                    return consumer.assignment().size() == 2;
                }, () -> consumer.assignment().toString());
                ConsumerGroupDescription found = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                Scenarios.equal(found.groupState(), GroupState.STABLE);
                Scenarios.equal(found.type().toString().toLowerCase(), protocol);
                Scenarios.equal(found.members().iterator().next().assignment().topicPartitions().size(), 2);
                Scenarios.equal(found.members().iterator().next().groupInstanceId(), Optional.of("one"));
                Scenarios.fails(admin.deleteConsumerGroups(List.of(group)).all(), GroupNotEmptyException.class);
                admin.removeMembersFromConsumerGroup(group,
                    new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("one")))).all().get();
                found = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                Scenarios.equal(found.members().size(), 0);
            }
        }
    }

    private static void transactions() throws Exception {
        TopicPartition partition = new TopicPartition(Scenarios.topic(1), 0);
        String name = Scenarios.unique("transactional");
        KafkaProducer<String, String> producer = Scenarios.producer(Map.of("transactional.id", name));
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(partition.topic(), 0, "k", "v")).get();
        Scenarios.equal(admin.listTransactions(new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING))
            .filterOnTransactionalIdPattern(name)).all().get().size(), 1);
        Scenarios.equal(admin.listTransactions(new ListTransactionsOptions().filterOnDuration(3_600_000)
            .filterStates(Set.of(TransactionState.ONGOING))).all().get().size(), 0);
        TransactionDescription found = admin.describeTransactions(List.of(name)).description(name).get();
        Scenarios.equal(found.state(), TransactionState.ONGOING);
        Scenarios.equal(found.topicPartitions(), Set.of(partition));
        ProducerState open = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers().get(0);
        Scenarios.equal(open.producerId(), found.producerId());
        Scenarios.equal(open.currentTransactionStartOffset().getAsLong(), 0L);
        admin.abortTransaction(new AbortTransactionSpec(partition, open.producerId(), (short) open.producerEpoch(),
            open.coordinatorEpoch().orElse(0))).all().get();
        open = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers().get(0);
        Scenarios.check(open.currentTransactionStartOffset().isEmpty(), open);
        producer.close();
        admin.fenceProducers(List.of(name)).all().get();
        Scenarios.until(() -> {
            try {
                return admin.describeTransactions(List.of(name)).description(name).get().state() != TransactionState.ONGOING;
            } catch (ExecutionException | InterruptedException e) {
                throw new AssertionError(e);
            }
        }, () -> "ongoing");
        try (KafkaProducer<String, String> another = Scenarios.producer(Map.of("transactional.id", name + "x"))) {
            another.initTransactions();
            another.beginTransaction();
            another.send(new ProducerRecord<>(partition.topic(), 0, "k", "v")).get();
            admin.forceTerminateTransaction(name + "x").result().get();
        }
        Scenarios.fails(admin.describeTransactions(List.of(name + "y")).description(name + "y"), TransactionalIdNotFoundException.class);
    }

    private static void logDirs() throws Exception {
        int node = admin.describeCluster().controller().get().id();
        String topic = Scenarios.topic(1);
        Map<String, LogDirDescription> places = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
        Scenarios.equal(places.size(), 1);
        LogDirDescription place = places.values().iterator().next();
        Scenarios.check(place.replicaInfos().containsKey(new TopicPartition(topic, 0)), "the partition is missing");
        Scenarios.check(place.totalBytes().getAsLong() > place.usableBytes().getAsLong(), place);
        TopicPartitionReplica replica = new TopicPartitionReplica(topic, 0, node);
        String path = admin.describeReplicaLogDirs(List.of(replica)).all().get().get(replica).getCurrentReplicaLogDir();
        Scenarios.check(places.containsKey(path), path);
        admin.alterReplicaLogDirs(Map.of(replica, path)).all().get();
        Scenarios.fails(admin.alterReplicaLogDirs(Map.of(replica, "/no/such/place")).all(), LogDirNotFoundException.class);
    }

    private static void replicas() throws Exception {
        int node = admin.describeCluster().controller().get().id();
        TopicPartition partition = new TopicPartition(Scenarios.topic(1), 0);
        Map<TopicPartition, Optional<Throwable>> elected =
            admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get();
        Scenarios.check(elected.get(partition).get() instanceof ElectionNotNeededException, elected);
        Scenarios.equal(admin.listPartitionReassignments().reassignments().get().size(), 0);
        admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(node))))).all().get();
        Scenarios.fails(admin.alterPartitionReassignments(
            Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(4711))))).all(), InvalidReplicaAssignmentException.class);
        Scenarios.fails(admin.alterPartitionReassignments(Map.of(partition, Optional.empty())).all(),
            NoReassignmentInProgressException.class);
    }

    private static void cluster() throws Exception {
        Scenarios.equal(admin.describeCluster().nodes().get().size(), 1);
        Scenarios.equal(admin.describeCluster().clusterId().get().length(), 22);
        QuorumInfo quorum = admin.describeMetadataQuorum().quorumInfo().get();
        Scenarios.equal(quorum.voters().size(), 1);
        Scenarios.equal(quorum.leaderId(), admin.describeCluster().controller().get().id());
        Scenarios.check(quorum.nodes().containsKey(quorum.leaderId()), quorum);
        Scenarios.equal(admin.describeFeatures().featureMetadata().get().finalizedFeatures().get("group.version").maxVersionLevel(), (short) 1);
        Scenarios.equal(admin.describeFeatures().featureMetadata().get().finalizedFeatures().get("transaction.version").maxVersionLevel(), (short) 2);
        admin.updateFeatures(Map.of("group.version", new FeatureUpdate((short) 1, FeatureUpdate.UpgradeType.UPGRADE)),
            new UpdateFeaturesOptions().validateOnly(true)).all().get();
        Scenarios.fails(admin.updateFeatures(Map.of("no.such.feature", new FeatureUpdate((short) 1, FeatureUpdate.UpgradeType.UPGRADE)),
            new UpdateFeaturesOptions()).all(), ApiException.class);
        Scenarios.fails(admin.unregisterBroker(4711).all(), BrokerIdNotRegisteredException.class);
        Scenarios.fails(admin.addRaftVoter(4711, Uuid.randomUuid(), Set.of(new RaftVoterEndpoint("CONTROLLER", "127.0.0.1", 9))).all(),
            UnsupportedVersionException.class);
        Scenarios.fails(admin.removeRaftVoter(4711, Uuid.randomUuid()).all(), UnsupportedVersionException.class);
        Scenarios.check(admin.metrics().size() > 0, "no metrics");
    }

    private static void clientMetrics() throws Exception {
        ConfigResource metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, Scenarios.unique("metrics"));
        alter(metrics, AlterConfigOp.OpType.SET, "interval.ms", "5000");
        Scenarios.equal(describe(metrics).get("interval.ms").value(), "5000");
        Scenarios.equal(describe(metrics).get("interval.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_CLIENT_METRICS_CONFIG);
        Scenarios.check(admin.listConfigResources(Set.of(ConfigResource.Type.CLIENT_METRICS),
            new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get().contains(metrics), "not listed");
        alter(metrics, AlterConfigOp.OpType.DELETE, "interval.ms", null);
        Scenarios.check(describe(metrics).get("interval.ms").isDefault(), describe(metrics));
    }

    /** There are no users, rules, tokens and quotas, and whoever asks is told so. */
    private static void nobody() throws Exception {
        Scenarios.fails(admin.describeAcls(AclBindingFilter.ANY).values(), SecurityDisabledException.class);
        AclBinding rule = new AclBinding(new ResourcePattern(ResourceType.TOPIC, "t", PatternType.LITERAL),
            new AccessControlEntry("User:alice", "*", AclOperation.READ, AclPermissionType.ALLOW));
        Scenarios.fails(admin.createAcls(List.of(rule)).all(), SecurityDisabledException.class);
        Scenarios.fails(admin.deleteAcls(List.of(rule.toFilter())).all(), SecurityDisabledException.class);
        Scenarios.fails(admin.createDelegationToken().delegationToken(), UnsupportedByAuthenticationException.class);
        Scenarios.fails(admin.describeDelegationToken().delegationTokens(), UnsupportedByAuthenticationException.class);
        Scenarios.fails(admin.renewDelegationToken(new byte[3]).expiryTimestamp(), UnsupportedByAuthenticationException.class);
        Scenarios.fails(admin.expireDelegationToken(new byte[3]).expiryTimestamp(), UnsupportedByAuthenticationException.class);
        Scenarios.equal(admin.describeUserScramCredentials().users().get().size(), 0);
        Scenarios.fails(admin.describeUserScramCredentials(List.of("alice")).description("alice"), ResourceNotFoundException.class);
        Scenarios.fails(admin.alterUserScramCredentials(
            List.of(new UserScramCredentialDeletion("alice", ScramMechanism.SCRAM_SHA_256))).all(), ResourceNotFoundException.class);
        Scenarios.equal(admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().size(), 0);
    }
}
