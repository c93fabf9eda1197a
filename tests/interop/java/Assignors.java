// What Apache Kafka's server-side assignors make of cases read from standard input, one line each:
//
//   assignor topic=partitions,... member:instance:topic.topic:topic/partition.topic/partition ...
//
// and written as one line each: member:topic/partition.topic/partition ...
// Topics are numbers; instance, topics and partitions may be empty.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.StringJoiner;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.ConsumerGroupPartitionAssignor;
import org.apache.kafka.coordinator.group.api.assignor.MemberAssignment;
import org.apache.kafka.coordinator.group.api.assignor.SubscribedTopicDescriber;
import org.apache.kafka.coordinator.group.api.assignor.SubscriptionType;
import org.apache.kafka.coordinator.group.assignor.RangeAssignor;
import org.apache.kafka.coordinator.group.assignor.UniformAssignor;
import org.apache.kafka.coordinator.group.modern.Assignment;
import org.apache.kafka.coordinator.group.modern.GroupSpecImpl;
import org.apache.kafka.coordinator.group.modern.MemberSubscriptionAndAssignmentImpl;

public final class Assignors {
    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(assign(line.split(" ")));
        }
    }

    private static String assign(String[] words) {
        ConsumerGroupPartitionAssignor assignor = words[0].equals("range") ? new RangeAssignor() : new UniformAssignor();
        Map<Uuid, Integer> sizes = new HashMap<>();
        for (String topic : words[1].split(",")) {
            String[] parts = topic.split("=");
            sizes.put(uuid(parts[0]), Integer.parseInt(parts[1]));
        }
        Map<String, MemberSubscriptionAndAssignmentImpl> members = new HashMap<>();
        Map<Uuid, Map<Integer, String>> owners = new HashMap<>();
        Set<Set<Uuid>> subscriptions = new HashSet<>();
        for (int at = 2; at < words.length; at++) {
            String[] parts = words[at].split(":", -1);
            Set<Uuid> topics = new HashSet<>();
            for (String topic : parts[2].split("\\.")) {
                if (!topic.isEmpty()) {
                    topics.add(uuid(topic));
                }
            }
            Map<Uuid, Set<Integer>> had = new HashMap<>();
            for (String place : parts[3].split("\\.")) {
                if (!place.isEmpty()) {
                    String[] pair = place.split("/");
                    int index = Integer.parseInt(pair[1]);
                    had.computeIfAbsent(uuid(pair[0]), none -> new HashSet<>()).add(index);
                    owners.computeIfAbsent(uuid(pair[0]), none -> new HashMap<>()).put(index, parts[0]);
                }
            }
            subscriptions.add(topics);
            Optional<String> instance = parts[1].isEmpty() ? Optional.empty() : Optional.of(parts[1]);
            members.put(
                parts[0],
                new MemberSubscriptionAndAssignmentImpl(Optional.empty(), instance, topics, new Assignment(had))
            );
        }
        SubscribedTopicDescriber describer = new SubscribedTopicDescriber() {
            public int numPartitions(Uuid topic) {
                return sizes.getOrDefault(topic, -1);
            }

            public Set<String> racksForPartition(Uuid topic, int partition) {
                return Set.of();
            }
        };
        SubscriptionType type =
            subscriptions.size() == 1 ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS;
        Map<String, MemberAssignment> made =
            assignor.assign(new GroupSpecImpl(members, type, owners), describer).members();
        StringJoiner answer = new StringJoiner(" ");
        new TreeMap<>(made).forEach((member, has) -> answer.add(member + ":" + places(has.partitions())));
        return answer.toString();
    }

    private static String places(Map<Uuid, Set<Integer>> partitions) {
        StringJoiner places = new StringJoiner(".");
        partitions.forEach((topic, indexes) -> {
            for (int index : new TreeSet<>(indexes)) {
                places.add(topic.getLeastSignificantBits() + "/" + index);
            }
        });
        return places.toString();
    }

    private static Uuid uuid(String number) {
        return new Uuid(1, Long.parseLong(number));
    }
}
