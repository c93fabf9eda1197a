// What Apache Kafka's own authorizer decides, asked on standard input one line each:
//
//   rules type,pattern,name,principal,host,operation,permission ...     replaces all rules, by their numbers
//   may principal host operation type name                              answers ALLOWED or DENIED
//   some principal host operation type                                  the same of any resource of the type
//
// The one argument says whether what no rule is about is for everybody. User:admin is a super user.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.metrics.Metrics;
import org.apache.kafka.common.metrics.internals.PluginMetricsImpl;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.security.auth.KafkaPrincipal;
import org.apache.kafka.common.security.auth.SecurityProtocol;
import org.apache.kafka.common.utils.SecurityUtils;
import org.apache.kafka.metadata.authorizer.StandardAcl;
import org.apache.kafka.metadata.authorizer.StandardAuthorizer;
import org.apache.kafka.server.authorizer.Action;
import org.apache.kafka.server.authorizer.AuthorizableRequestContext;

public final class AccessRules {
    private record Client(KafkaPrincipal principal, InetAddress clientAddress) implements AuthorizableRequestContext {
        public String listenerName() {
            return "default";
        }

        public SecurityProtocol securityProtocol() {
            return SecurityProtocol.PLAINTEXT;
        }

        public int requestType() {
            return 0;
        }

        public int requestVersion() {
            return 0;
        }

        public String clientId() {
            return "client";
        }

        public int correlationId() {
            return 0;
        }
    }

    public static void main(String[] args) throws Exception {
        StandardAuthorizer authorizer = new StandardAuthorizer();
        authorizer.configure(Map.of("super.users", "User:admin", "allow.everyone.if.no.acl.found", args[0]));
        authorizer.withPluginMetrics(new PluginMetricsImpl(new Metrics(), Map.of()));
        authorizer.completeInitialLoad();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("rules")) {
                load(authorizer, words);
                continue;
            }
            Client client = new Client(SecurityUtils.parseKafkaPrincipal(words[1]), InetAddress.getByName(words[2]));
            AclOperation operation = AclOperation.fromCode(Byte.parseByte(words[3]));
            ResourceType type = ResourceType.fromCode(Byte.parseByte(words[4]));
            if (words[0].equals("some")) {
                System.out.println(authorizer.authorizeByResourceType(client, operation, type));
            } else {
                ResourcePattern resource = new ResourcePattern(type, words[5], PatternType.LITERAL);
                Action action = new Action(operation, resource, 1, false, false);
                System.out.println(authorizer.authorize(client, List.of(action)).get(0));
            }
        }
    }

    private static void load(StandardAuthorizer authorizer, String[] words) {
        Map<Uuid, StandardAcl> rules = new HashMap<>();
        for (int at = 1; at < words.length; at++) {
            String[] parts = words[at].split(",");
            StandardAcl rule = new StandardAcl(
                ResourceType.fromCode(Byte.parseByte(parts[0])),
                parts[2],
                PatternType.fromCode(Byte.parseByte(parts[1])),
                parts[3],
                parts[4],
                AclOperation.fromCode(Byte.parseByte(parts[5])),
                AclPermissionType.fromCode(Byte.parseByte(parts[6]))
            );
            rules.put(new Uuid(1, at), rule);
        }
        authorizer.loadSnapshot(rules);
    }
}
