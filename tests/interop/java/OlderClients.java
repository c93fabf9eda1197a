import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What every release of Kafka's Java client from 0.11 to 3.9 can do; prints a line for each thing that worked. */
public final class OlderClients {
    private static final int A_WHILE_MS = 100;
    private static final int PATIENCE_MS = 20_000;
    private static final int A_CODEC = 50;

    private static String bootstrap;
    private static String topic;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        topic = "older-" + UUID.randomUUID();
        List<String> codecs = Arrays.asList(args[1].split(","));
        try (AdminClient admin = AdminClient.create(settings())) {
            administrate(admin);
            int count = produce(codecs);
            consume(count);
            transact(count);
            share();
            admin.deleteTopics(Collections.singleton(topic)).all().get();
        }
        System.exit(0);
    }

    private static void administrate(AdminClient admin) throws Exception {
        admin.createTopics(Collections.singleton(new NewTopic(topic, 2, (short) 1))).all().get();
        check(admin.listTopics().names().get().contains(topic), "list");
        check(admin.describeTopics(Collections.singleton(topic)).all().get().get(topic).partitions().size() == 2, "describe");
        check(admin.describeCluster().nodes().get().size() == 1, "cluster");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Config config = new Config(Collections.singleton(new ConfigEntry("retention.ms", "1000000")));
        admin.alterConfigs(Collections.singletonMap(resource, config)).all().get();
        config = admin.describeConfigs(Collections.singleton(resource)).all().get().get(resource);
        check(config.get("retention.ms").value().equals("1000000"), "configs");
    }

    private static int produce(List<String> codecs) throws Exception {
        int count = 0;
        for (String codec : codecs)
            try (KafkaProducer<String, String> producer =
                     producer("compression.type", codec, "acks", "all", "enable.idempotence", "true")) {
                for (int i = 0; i < A_CODEC; i++, count++)
                    producer.send(new ProducerRecord<>(topic, "key-" + i, codec));
            }
        try (KafkaProducer<String, String> producer = producer("acks", "0")) {
            for (int i = 0; i < A_CODEC; i++, count++)
                producer.send(new ProducerRecord<>(topic, "key-" + i, "unanswered"));
        }
        return count;
    }

    private static void consume(int count) {
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = consumer("group.id", topic)) {
            consumer.subscribe(Collections.singleton(topic));
            check(reads(consumer, count), "records");
            consumer.commitSync();
            check(consumer.committed(partition).offset() > 0, "committed");
            check(consumer.endOffsets(consumer.assignment()).values().stream().mapToLong(end -> end).sum() == count, "ends");
            check(consumer.offsetsForTimes(Collections.singletonMap(partition, 1L)).get(partition).offset() == 0, "times");
        }
    }

    private static void transact(int count) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        String group = topic + "-offsets";
        try (KafkaProducer<String, String> producer = producer("transactional.id", topic)) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "key", "lost")).get();
            producer.abortTransaction();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "key", "kept"));
            producer.sendOffsetsToTransaction(Collections.singletonMap(partition, new OffsetAndMetadata(7)), group);
            producer.commitTransaction();
        }
        try (KafkaConsumer<String, String> consumer = consumer("group.id", group, "isolation.level", "read_committed")) {
            check(consumer.committed(partition).offset() == 7, "offsets in a transaction");
            consumer.assign(Arrays.asList(partition, new TopicPartition(topic, 1)));
            consumer.seekToBeginning(consumer.assignment());
            check(reads(consumer, count + 1), "transactions");
        }
    }

    /** Two members of a group have a partition each. */
    private static void share() throws Exception {
        ExecutorService threads = Executors.newSingleThreadExecutor();
        try (KafkaConsumer<String, String> one = consumer("group.id", topic + "-two", "heartbeat.interval.ms", "200");
             KafkaConsumer<String, String> two = consumer("group.id", topic + "-two", "heartbeat.interval.ms", "200")) {
            one.subscribe(Collections.singleton(topic));
            two.subscribe(Collections.singleton(topic));
            Future<Boolean> other = threads.submit(() -> until(() -> hasOne(two)));
            check(until(() -> hasOne(one) && other.isDone()) && other.get(), "two members");
        }
        threads.shutdown();
    }

    private static boolean hasOne(KafkaConsumer<String, String> consumer) {
        consumer.poll(A_WHILE_MS);
        return consumer.assignment().size() == 1;
    }

    private static boolean reads(KafkaConsumer<String, String> consumer, int count) {
        int[] found = {0};
        return until(() -> (found[0] += consumer.poll(A_WHILE_MS).count()) >= count) && found[0] == count;
    }

    private static boolean until(BooleanSupplier done) {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (!done.getAsBoolean())
            if (System.currentTimeMillis() > deadline)
                return false;
        return true;
    }

    private static void check(boolean right, String what) {
        if (!right)
            throw new AssertionError(what);
        System.out.println(what);
    }

    private static Properties settings(String... more) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < more.length; i += 2)
            settings.put(more[i], more[i + 1]);
        return settings;
    }

    private static KafkaProducer<String, String> producer(String... more) {
        return new KafkaProducer<>(settings(more), new StringSerializer(), new StringSerializer());
    }

    private static KafkaConsumer<String, String> consumer(String... more) {
        Properties settings = settings(more);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    private OlderClients() { }
}
