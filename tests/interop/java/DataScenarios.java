import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;

/** Producers and consumers of both protocols, with transactions. */
public final class DataScenarios {
    private static final int MANY = 500;

    public static void main(String[] args) {
        Map<String, Scenarios.Scenario> all = new LinkedHashMap<>();
        all.put("codecs", DataScenarios::codecs);
        all.put("too_large", DataScenarios::tooLarge);
        all.put("append_time", DataScenarios::appendTime);
        all.put("offsets", DataScenarios::offsets);
        all.put("transactions", DataScenarios::transactions);
        all.put("consume_and_produce", DataScenarios::consumeAndProduce);
        all.put("fencing", DataScenarios::fencing);
        all.put("range", () -> joinAndLeave(Map.of("partition.assignment.strategy", RangeAssignor.class.getName())));
        all.put("cooperative_sticky", DataScenarios::cooperative);
        all.put("consumer_protocol", () -> joinAndLeave(Map.of("group.protocol", "consumer")));
        all.put("consumer_protocol_range",
            () -> joinAndLeave(Map.of("group.protocol", "consumer", "group.remote.assignor", "range")));
        all.put("static_classic", DataScenarios::staticClassic);
        all.put("static_consumer", DataScenarios::staticConsumer);
        all.put("pattern", DataScenarios::pattern);
        all.put("online_upgrade", DataScenarios::onlineUpgrade);
        Scenarios.run(args[0], all);
    }

    private static void codecs() throws Exception {
        String topic = Scenarios.topic(3);
        List<String> codecs = List.of("none", "gzip", "snappy", "lz4", "zstd");
        Set<String> expected = new TreeSet<>();
        for (String codec : codecs)
            try (KafkaProducer<String, String> producer =
                     Scenarios.producer(Map.of("compression.type", codec, "linger.ms", 5, "acks", "all"))) {
                List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
                for (int i = 0; i < MANY; i++) {
                    ProducerRecord<String, String> record = new ProducerRecord<>(
                        topic, null, 1_000L + i, i % 7 == 0 ? null : "key-" + i, i % 11 == 0 ? null : codec + "-" + i);
                    record.headers().add("codec", codec.getBytes()).add("null", null);
                    sent.add(producer.send(record));
                    expected.add(record.key() + "/" + record.value() + "/" + record.timestamp());
                }
                for (java.util.concurrent.Future<RecordMetadata> one : sent)
                    Scenarios.check(one.get().hasOffset(), "no offset");
            }
        try (KafkaConsumer<String, String> consumer = Scenarios.consumer(Map.of("max.poll.records", 200))) {
            consumer.assign(partitions(topic, 3));
            Set<String> found = new TreeSet<>();
            for (ConsumerRecord<String, String> record : Scenarios.read(consumer, MANY * codecs.size())) {
                found.add(record.key() + "/" + record.value() + "/" + record.timestamp());
                Scenarios.check(record.headers().lastHeader("null").value() == null, "a header is not null");
            }
            Scenarios.equal(found, expected);
        }
    }

    private static void tooLarge() throws Exception {
        String topic = Scenarios.topic(1, Map.of("max.message.bytes", "1000"));
        try (KafkaProducer<String, String> producer = Scenarios.producer(Map.of())) {
            try {
                producer.send(new ProducerRecord<>(topic, "x".repeat(2_000))).get();
                Scenarios.check(false, "it was taken");
            } catch (ExecutionException e) {
                Scenarios.check(e.getCause() instanceof RecordTooLargeException, e.getCause());
            }
        }
        try (KafkaProducer<String, String> producer = Scenarios.producer(Map.of("linger.ms", 200))) {
            for (int i = 0; i < 20; i++)
                producer.send(new ProducerRecord<>(topic, "y".repeat(300)));
            producer.flush();
        }
        try (KafkaConsumer<String, String> consumer = Scenarios.consumer(Map.of())) {
            consumer.assign(partitions(topic, 1));
            Scenarios.read(consumer, 20);
        }
    }

    private static void appendTime() throws Exception {
        String topic = Scenarios.topic(1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = Scenarios.producer(Map.of());
             KafkaConsumer<String, String> consumer = Scenarios.consumer(Map.of())) {
            RecordMetadata stored = producer.send(new ProducerRecord<>(topic, 0, 5L, "k", "v")).get();
            Scenarios.check(stored.timestamp() >= before, stored.timestamp());
            consumer.assign(partitions(topic, 1));
            Scenarios.equal(Scenarios.read(consumer, 1).get(0).timestamp(), stored.timestamp());
        }
    }

    private static void offsets() throws Exception {
        String topic = Scenarios.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        fill(topic, 1, 10);
        for (String protocol : List.of("classic", "consumer"))
            try (KafkaConsumer<String, String> consumer =
                     Scenarios.consumer(Map.of("group.id", Scenarios.unique("group"), "group.protocol", protocol))) {
                consumer.subscribe(List.of(topic));
                Scenarios.read(consumer, 10);
                Scenarios.equal(consumer.position(partition), 10L);
                consumer.commitSync(Map.of(partition, new OffsetAndMetadata(4, "note")));
                Scenarios.equal(consumer.committed(Set.of(partition)).get(partition).metadata(), "note");
                consumer.seek(partition, 7);
                Scenarios.read(consumer, 3);
                consumer.seekToBeginning(Set.of(partition));
                consumer.pause(Set.of(partition));
                Scenarios.check(consumer.poll(Duration.ofMillis(200)).isEmpty(), "records while paused");
                consumer.resume(Set.of(partition));
                Scenarios.read(consumer, 10);
                Scenarios.equal(consumer.beginningOffsets(Set.of(partition)).get(partition), 0L);
                Scenarios.equal(consumer.endOffsets(Set.of(partition)).get(partition), 10L);
                Scenarios.equal(consumer.offsetsForTimes(Map.of(partition, 3L)).get(partition).offset(), 3L);
                consumer.commitAsync();
                Scenarios.check(consumer.currentLag(partition).isPresent(), "no lag");
            }
    }

    private static void transactions() throws Exception {
        String topic = Scenarios.topic(2);
        try (KafkaProducer<String, String> producer =
                 Scenarios.producer(Map.of("transactional.id", Scenarios.unique("transactional")))) {
            producer.initTransactions();
            for (int round = 0; round < 6; round++) {
                producer.beginTransaction();
                for (int i = 0; i < 10; i++)
                    producer.send(new ProducerRecord<>(topic, i % 2, "k", (round % 2 == 0 ? "kept-" : "lost-") + i));
                producer.flush();
                if (round % 2 == 0)
                    producer.commitTransaction();
                else
                    producer.abortTransaction();
            }
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, "k", "open")).get();
            try (KafkaConsumer<String, String> committed = Scenarios.consumer(Map.of("isolation.level", "read_committed"));
                 KafkaConsumer<String, String> everything = Scenarios.consumer(Map.of())) {
                committed.assign(partitions(topic, 2));
                for (ConsumerRecord<String, String> record : Scenarios.read(committed, 30))
                    Scenarios.check(record.value().startsWith("kept-"), record.value());
                Scenarios.check(committed.poll(Duration.ofMillis(200)).isEmpty(), "more than what is committed");
                everything.assign(partitions(topic, 2));
                Scenarios.read(everything, 61);
            }
            producer.commitTransaction();
        }
    }

    private static void consumeAndProduce() throws Exception {
        String from = Scenarios.topic(1);
        String to = Scenarios.topic(1);
        String group = Scenarios.unique("group");
        TopicPartition partition = new TopicPartition(from, 0);
        fill(from, 1, 20);
        for (String protocol : List.of("classic", "consumer"))
            try (KafkaConsumer<String, String> consumer =
                     Scenarios.consumer(Map.of("group.id", group + protocol, "group.protocol", protocol));
                 KafkaProducer<String, String> producer = Scenarios.producer(Map.of("transactional.id", group + protocol))) {
                producer.initTransactions();
                consumer.subscribe(List.of(from));
                for (boolean keep : new boolean[] {false, true}) {
                    List<ConsumerRecord<String, String>> records = Scenarios.read(consumer, 20);
                    producer.beginTransaction();
                    for (ConsumerRecord<String, String> record : records)
                        producer.send(new ProducerRecord<>(to, protocol, record.value()));
                    producer.sendOffsetsToTransaction(
                        Map.of(partition, new OffsetAndMetadata(20)), consumer.groupMetadata());
                    if (keep)
                        producer.commitTransaction();
                    else
                        producer.abortTransaction();
                    OffsetAndMetadata stored = consumer.committed(Set.of(partition)).get(partition);
                    Scenarios.check((stored != null) == keep, "committed: " + stored);
                    consumer.seekToBeginning(Set.of(partition));
                }
            }
        try (KafkaConsumer<String, String> reader = Scenarios.consumer(Map.of("isolation.level", "read_committed"))) {
            reader.assign(partitions(to, 1));
            Scenarios.read(reader, 40);
        }
    }

    private static void fencing() throws Exception {
        String topic = Scenarios.topic(1);
        Map<String, Object> settings = Map.of("transactional.id", Scenarios.unique("transactional"));
        try (KafkaProducer<String, String> older = Scenarios.producer(settings);
             KafkaProducer<String, String> newer = Scenarios.producer(settings)) {
            older.initTransactions();
            older.beginTransaction();
            older.send(new ProducerRecord<>(topic, "lost")).get();
            newer.initTransactions();
            newer.beginTransaction();
            newer.send(new ProducerRecord<>(topic, "kept"));
            newer.commitTransaction();
            try {
                older.send(new ProducerRecord<>(topic, "late")).get();
                older.commitTransaction();
                Scenarios.check(false, "the older one is not fenced");
            } catch (ExecutionException e) {
                Scenarios.check(e.getCause() instanceof InvalidProducerEpochException
                    || e.getCause() instanceof ProducerFencedException, e.getCause());
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
                // as it should be
            }
        }
        try (KafkaConsumer<String, String> reader = Scenarios.consumer(Map.of("isolation.level", "read_committed"))) {
            reader.assign(partitions(topic, 1));
            Scenarios.equal(Scenarios.read(reader, 1).get(0).value(), "kept");
        }
    }

    /** Two members share all partitions; when one leaves, the other has them all. */
    private static void joinAndLeave(Map<String, Object> how) throws Exception {
        String topic = Scenarios.topic(4);
        Map<String, Object> settings = inGroup(how);
        try (KafkaConsumer<String, String> first = Scenarios.consumer(settings)) {
            first.subscribe(List.of(topic));
            untilAssigned(first, 4);
            try (KafkaConsumer<String, String> second = Scenarios.consumer(settings)) {
                second.subscribe(List.of(topic));
                untilShared(first, second);
                Set<TopicPartition> all = new HashSet<>(first.assignment());
                all.addAll(second.assignment());
                Scenarios.equal(all, new HashSet<>(partitions(topic, 4)));
                second.commitSync(Map.of(second.assignment().iterator().next(), new OffsetAndMetadata(0)));
            }
            untilAssigned(first, 4);
        }
    }

    /** With the cooperative protocol a member keeps what it need not give up. */
    private static void cooperative() throws Exception {
        String topic = Scenarios.topic(4);
        Map<String, Object> settings =
            inGroup(Map.of("partition.assignment.strategy", CooperativeStickyAssignor.class.getName()));
        Set<TopicPartition> revoked = new HashSet<>();
        try (KafkaConsumer<String, String> first = Scenarios.consumer(settings);
             KafkaConsumer<String, String> second = Scenarios.consumer(settings)) {
            first.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    revoked.addAll(partitions);
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) { }
            });
            untilAssigned(first, 4);
            second.subscribe(List.of(topic));
            untilShared(first, second);
            Scenarios.equal(revoked, second.assignment());
        }
    }

    private static void staticClassic() throws Exception {
        String topic = Scenarios.topic(2);
        Map<String, Object> settings = inGroup(Map.of("group.instance.id", "one", "session.timeout.ms", 20_000));
        int generation;
        try (KafkaConsumer<String, String> first = Scenarios.consumer(settings)) {
            first.subscribe(List.of(topic));
            untilAssigned(first, 2);
            generation = first.groupMetadata().generationId();
        }
        try (KafkaConsumer<String, String> again = Scenarios.consumer(settings);
             KafkaConsumer<String, String> twin = Scenarios.consumer(settings)) {
            again.subscribe(List.of(topic));
            untilAssigned(again, 2);
            Scenarios.equal(again.groupMetadata().generationId(), generation);
            twin.subscribe(List.of(topic));
            untilAssigned(twin, 2);
            try {
                again.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0)));
                Scenarios.check(false, "the older twin is not fenced");
            } catch (FencedInstanceIdException | CommitFailedException expected) {
                // as it should be
            }
        }
    }

    private static void staticConsumer() throws Exception {
        String topic = Scenarios.topic(2);
        Map<String, Object> settings = inGroup(Map.of("group.instance.id", "one", "group.protocol", "consumer"));
        try (KafkaConsumer<String, String> first = Scenarios.consumer(settings)) {
            first.subscribe(List.of(topic));
            untilAssigned(first, 2);
            try (KafkaConsumer<String, String> twin = Scenarios.consumer(settings)) {
                twin.subscribe(List.of(topic));
                Scenarios.until(() -> {
                    try {
                        twin.poll(Scenarios.A_WHILE);
                        return false;
                    } catch (UnreleasedInstanceIdException expected) {
                        return true;
                    }
                }, () -> "no refusal of the second member of that name");
            }
        }
        try (KafkaConsumer<String, String> again = Scenarios.consumer(settings)) {
            again.subscribe(List.of(topic));
            untilAssigned(again, 2);
        }
    }

    private static void pattern() throws Exception {
        String prefix = Scenarios.unique("pattern");
        try (Admin admin = Scenarios.admin();
             KafkaConsumer<String, String> consumer = Scenarios.consumer(inGroup(Map.of("group.protocol", "consumer")))) {
            admin.createTopics(List.of(new org.apache.kafka.clients.admin.NewTopic(prefix + "-a", 1, (short) 1))).all().get();
            consumer.subscribe(new SubscriptionPattern(prefix + "-[ab]"));
            untilAssigned(consumer, 1);
            admin.createTopics(List.of(new org.apache.kafka.clients.admin.NewTopic(prefix + "-b", 2, (short) 1),
                new org.apache.kafka.clients.admin.NewTopic(prefix + "-c", 2, (short) 1))).all().get();
            untilAssigned(consumer, 3);
        }
    }

    /** A group goes from the classic protocol to the consumer protocol and back, member by member. */
    private static void onlineUpgrade() throws Exception {
        String topic = Scenarios.topic(4);
        Map<String, Object> classic =
            inGroup(Map.of("partition.assignment.strategy", CooperativeStickyAssignor.class.getName()));
        Map<String, Object> modern = Map.of("group.id", classic.get("group.id"), "group.protocol", "consumer");
        try (KafkaConsumer<String, String> old = Scenarios.consumer(classic)) {
            old.subscribe(List.of(topic));
            untilAssigned(old, 4);
            try (KafkaConsumer<String, String> upgraded = Scenarios.consumer(modern)) {
                upgraded.subscribe(List.of(topic));
                untilShared(old, upgraded);
            }
            untilAssigned(old, 4);
        }
    }

    private static Map<String, Object> inGroup(Map<String, Object> more) {
        Map<String, Object> settings = new LinkedHashMap<>(more);
        settings.put("group.id", Scenarios.unique("group"));
        if (!"consumer".equals(more.get("group.protocol")))
            settings.put("heartbeat.interval.ms", 200);
        return settings;
    }

    private static void untilAssigned(KafkaConsumer<String, String> consumer, int count) {
        Scenarios.until(() -> {
            consumer.poll(Scenarios.A_WHILE);
            return consumer.assignment().size() == count;
        }, () -> consumer.assignment() + " instead of " + count);
    }

    private static void untilShared(KafkaConsumer<String, String> first, KafkaConsumer<String, String> second) {
        Scenarios.until(() -> {
            first.poll(Scenarios.A_WHILE);
            second.poll(Scenarios.A_WHILE);
            return first.assignment().size() == 2 && second.assignment().size() == 2;
        }, () -> first.assignment() + " and " + second.assignment());
    }

    private static List<TopicPartition> partitions(String topic, int count) {
        return IntStream.range(0, count).mapToObj(i -> new TopicPartition(topic, i)).collect(Collectors.toList());
    }

    private static void fill(String topic, int partitions, int count) throws Exception {
        try (KafkaProducer<String, String> producer = Scenarios.producer(Map.of())) {
            for (int i = 0; i < count; i++)
                producer.send(new ProducerRecord<>(topic, i % partitions, (long) i, "key", "value-" + i)).get();
        }
    }
}
