import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A share consumer that does what it is told: arguments are the topic and configurations NAME=VALUE; each
 * line of standard input is a command, answered by lines of which the last is "done".
 *
 * poll MILLISECONDS | acknowledge TYPE PARTITION OFFSET | commit | close
 */
public class ShareClient {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        for (int at = 1; at < arguments.length; at++) {
            String[] pair = arguments[at].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        Map<String, ConsumerRecord<String, String>> records = new HashMap<>();
        KafkaShareConsumer<String, String> consumer = new KafkaShareConsumer<>(properties);
        consumer.setAcknowledgementCommitCallback((offsets, failure) ->
            say("acknowledged " + offsets.size() + " " + (failure == null ? "-" : failure.getClass().getSimpleName())));
        consumer.subscribe(List.of(arguments[0]));
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.split(" ");
            try {
                switch (words[0]) {
                    case "poll" -> {
                        ConsumerRecords<String, String> found = consumer.poll(Duration.ofMillis(Long.parseLong(words[1])));
                        for (ConsumerRecord<String, String> one : found) {
                            records.put(one.partition() + " " + one.offset(), one);
                            say("record " + one.partition() + " " + one.offset() + " "
                                + one.deliveryCount().map(String::valueOf).orElse("-") + " " + one.value());
                        }
                    }
                    case "acknowledge" -> consumer.acknowledge(
                        records.get(words[2] + " " + words[3]), AcknowledgeType.valueOf(words[1]));
                    case "commit" -> {
                        Map<TopicIdPartition, Optional<KafkaException>> outcomes =
                            consumer.commitSync(Duration.ofSeconds(20));
                        outcomes.forEach((where, failure) -> say("committed " + where.partition() + " "
                            + failure.map(one -> one.getClass().getSimpleName()).orElse("-")));
                    }
                    case "close" -> consumer.close(Duration.ofSeconds(20));
                    default -> say("unknown");
                }
            } catch (RuntimeException failure) {
                say("failed " + failure);
            }
            say("done");
        }
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
