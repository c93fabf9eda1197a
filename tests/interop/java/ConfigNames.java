import kafka.server.KafkaConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.storage.internals.log.LogConfig;

/** Prints what configurations Apache Kafka documents: kind of resource, name, type, whether it is internal. */
public final class ConfigNames {
    public static void main(String[] args) {
        print("broker", KafkaConfig.configDef());
        print("topic", LogConfig.configDefCopy());
        print("group", GroupConfig.CONFIG_DEF);
    }

    private static void print(String kind, ConfigDef all) {
        all.configKeys().forEach((name, key) ->
            System.out.println(kind + "\t" + name + "\t" + key.type + "\t" + key.internalConfig));
    }
}
