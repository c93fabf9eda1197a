import java.io.FileReader;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.MetricName;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Produces and consumes with the properties of a client that must say who it is.
 *
 * Arguments: topic, then pairs of a file of properties and for how many milliseconds to go on. Prints a line each:
 * the file's name, "ok" or the exception, records produced, and how often the producer authenticated anew.
 */
public class Secured {
    public static void main(String[] arguments) {
        for (int at = 1; at < arguments.length; at += 2) {
            String outcome;
            try {
                outcome = run(arguments[0], arguments[at], Long.parseLong(arguments[at + 1]));
            } catch (Exception error) {
                Throwable cause = error;
                while (cause.getCause() != null) {
                    cause = cause.getCause();
                }
                outcome = cause.getClass().getSimpleName() + " " + cause.getMessage() + "\t0\t0";
            }
            System.out.println(new java.io.File(arguments[at]).getName() + "\t" + outcome.replace('\n', ' '));
        }
    }

    private static String run(String topic, String file, long milliseconds) throws Exception {
        Properties properties = new Properties();
        try (FileReader reader = new FileReader(file)) {
            properties.load(reader);
        }
        properties.put("max.block.ms", "10000");
        properties.put("default.api.timeout.ms", "10000");
        int produced = 0;
        double anew = 0;
        TopicPartition partition = new TopicPartition(topic, 0);
        long first;
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            long end = System.currentTimeMillis() + milliseconds;
            first = producer.send(new ProducerRecord<>(topic, 0, null, file)).get().offset();
            for (produced = 1; System.currentTimeMillis() < end; produced++) {
                producer.send(new ProducerRecord<>(topic, 0, null, file)).get();
                Thread.sleep(20);
            }
            for (Map.Entry<MetricName, ? extends Metric> entry : producer.metrics().entrySet()) {
                if (entry.getKey().name().equals("successful-reauthentication-total")) {
                    anew += (Double) entry.getValue().metricValue();
                }
            }
        }
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, first);
            int consumed = 0;
            for (int round = 0; round < 50 && consumed < produced; round++) {
                consumed += consumer.poll(Duration.ofMillis(200)).count();
            }
            if (consumed != produced) {
                return "produced " + produced + ", consumed " + consumed + "\t0\t0";
            }
        }
        return "ok\t" + produced + "\t" + (long) anew;
    }
}
