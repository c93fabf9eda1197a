import java.io.PrintWriter;
import java.io.StringWriter;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What the scenarios of Kafka's Java clients share: clients, waiting, and one line of outcome each. */
final class Scenarios {
    interface Scenario {
        void run() throws Exception;
    }

    static final Duration A_WHILE = Duration.ofMillis(100);
    private static final long PATIENCE_MS = 20_000;

    static String bootstrap;

    /** Run all and print a line for each: its name, how many milliseconds it took, and "ok" or a stack trace. */
    static void run(String address, Map<String, Scenario> all) {
        bootstrap = address;
        all.forEach((name, scenario) -> {
            String outcome = "ok";
            long began = System.currentTimeMillis();
            try {
                scenario.run();
            } catch (Throwable fault) {
                StringWriter text = new StringWriter();
                fault.printStackTrace(new PrintWriter(text));
                outcome = text.toString().replace("\n", "|").replace("\t", "  ");
            }
            System.out.println(name + "\t" + (System.currentTimeMillis() - began) + "\t" + outcome);
            System.out.flush();
        });
        System.exit(0);
    }

    static String unique(String kind) {
        return kind + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    static String topic(int partitions, Map<String, String> configs) throws Exception {
        String name = unique("topic");
        try (Admin admin = admin()) {
            admin.createTopics(Set.of(new NewTopic(name, partitions, (short) 1).configs(configs))).all().get();
        }
        return name;
    }

    static String topic(int partitions) throws Exception {
        return topic(partitions, Map.of());
    }

    static KafkaProducer<String, String> producer(Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        settings.putAll(more);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "auto.offset.reset", "earliest", "enable.auto.commit", false));
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    /** Poll until there are so many records; fail if there are not in time, or more. */
    static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> found = new ArrayList<>();
        until(() -> {
            consumer.poll(A_WHILE).forEach(found::add);
            return found.size() >= count;
        }, () -> found.size() + " of " + count + " records");
        check(found.size() == count, found.size() + " records instead of " + count);
        return found;
    }

    static void until(BooleanSupplier done, java.util.function.Supplier<String> state) {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (!done.getAsBoolean())
            check(System.currentTimeMillis() < deadline, "still " + state.get());
    }

    static void check(boolean right, Object what) {
        if (!right)
            throw new AssertionError(what);
    }

    static void equal(Object found, Object expected) {
        check(expected.equals(found), "found " + found + " instead of " + expected);
    }

    /** Expect a future to fail with an exception of this class. */
    static void fails(KafkaFuture<?> future, Class<? extends Exception> kind) throws InterruptedException {
        try {
            future.get();
        } catch (ExecutionException e) {
            check(kind.isInstance(e.getCause()), e.getCause() + " instead of " + kind.getSimpleName());
            return;
        }
        throw new AssertionError("no " + kind.getSimpleName());
    }

    private Scenarios() { }
}
