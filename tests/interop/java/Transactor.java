import java.time.Duration;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Writes to all partitions of a topic in one transaction after the other, until its input ends.
 *
 * <p>Prints "committed N" or "aborted N" for each; every fifth is aborted on purpose. A producer that is of no
 * more use is replaced by another with the same transactional id, after "unknown N" if it was committing.
 */
public final class Transactor {
    private Transactor() {}

    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        int partitions = Integer.parseInt(arguments[2]);
        Map<String, Object> configs = Map.of(
            "bootstrap.servers", arguments[0],
            "transactional.id", topic + "-java",
            "transaction.timeout.ms", "20000",
            "max.block.ms", "20000",
            "delivery.timeout.ms", "20000",
            "request.timeout.ms", "5000",
            "reconnect.backoff.max.ms", "200",
            "linger.ms", "0");
        KafkaProducer<String, String> producer = begun(configs);
        for (int number = 0; System.in.available() == 0; number++) {
            boolean committing = false;
            try {
                producer.beginTransaction();
                for (int partition = 0; partition < partitions; partition++) {
                    producer.send(new ProducerRecord<>(topic, partition, null, Integer.toString(number)));
                }
                if (number % 5 == 4) {
                    producer.flush();
                    producer.abortTransaction();
                    say("aborted", number);
                } else {
                    committing = true;
                    producer.commitTransaction();
                    say("committed", number);
                }
            } catch (KafkaException failure) {
                System.err.println(number + " " + failure);
                boolean aborted = false;
                if (!(failure instanceof ProducerFencedException)) {
                    try {
                        producer.abortTransaction();
                        aborted = true;
                    } catch (KafkaException useless) {
                        System.err.println(number + " abort: " + useless);
                    }
                }
                if (!aborted) {
                    producer.close(Duration.ZERO);
                    producer = begun(configs);
                }
                say(committing && !aborted ? "unknown" : "aborted", number);
            }
        }
        producer.close(Duration.ofSeconds(10));
    }

    private static KafkaProducer<String, String> begun(Map<String, Object> configs) {
        KafkaProducer<String, String> producer =
            new KafkaProducer<>(configs, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    private static void say(String what, int number) {
        System.out.println(what + " " + number);
        System.out.flush();
    }
}
