import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.ResponseHeader;

/**
 * Sends requests that Kafka's own generated classes encode, and shows the answers that they decode.
 *
 * One JSON object a line comes in and one goes out. {"keys": true} lists every request the classes know.
 * {"key": 3, "version": 12, "body": {...}} is one exchange; fields that the version does not have are left
 * out, fields that are not given have their defaults, a name that no version has is an error. The answer is
 * {"body": ..., "left": bytes behind the message, "same": whether encoding it again gives the bytes that came},
 * or {"closed": true} if the broker closed the connection. {"connection": "b"} takes a connection of its own.
 */
public final class ApiExchange {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int TIMEOUT_MS = 30_000;

    private final String host;
    private final int port;
    private final Map<String, Socket> sockets = new java.util.HashMap<>();
    private int correlationId = 0;

    private ApiExchange(String host, int port) {
        this.host = host;
        this.port = port;
    }

    public static void main(String[] args) throws Exception {
        ApiExchange exchange = new ApiExchange(args[0], Integer.parseInt(args[1]));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode asked = JSON.readTree(line);
            JsonNode answer;
            try {
                answer = asked.has("keys") ? keys() : exchange.exchange(asked);
            } catch (ReflectiveOperationException | RuntimeException e) {
                Throwable cause = e instanceof InvocationTargetException && e.getCause() != null ? e.getCause() : e;
                answer = JSON.createObjectNode().put("error", cause.toString());
            }
            System.out.println(JSON.writeValueAsString(answer));
            System.out.flush();
        }
    }

    private static JsonNode keys() {
        ArrayNode all = JSON.createArrayNode();
        for (ApiKeys key : ApiKeys.values()) {
            ObjectNode one = all.addObject();
            one.put("key", key.id).put("name", key.name);
            one.put("first", key.oldestVersion()).put("last", key.latestVersion());
            one.put("stable", key.latestVersion(false));
            ArrayNode listeners = one.putArray("listeners");
            key.messageType.listeners().forEach(listener -> listeners.add(listener.name()));
        }
        return all;
    }

    private JsonNode exchange(JsonNode asked) throws IOException, ReflectiveOperationException {
        ApiKeys key = ApiKeys.forId(asked.get("key").asInt());
        short version = (short) asked.get("version").asInt();
        ApiMessage request = ApiMessageType.fromApiKey(key.id).newRequest();
        fill(request, asked.path("body"), version);
        ObjectNode answer = JSON.createObjectNode();
        String name = asked.path("connection").asText("");
        ByteBuffer received;
        try {
            received = send(name, key, version, request);
        } catch (EOFException | SocketException closed) {
            close(name);
            return answer.put("closed", true);
        } catch (SocketTimeoutException late) {
            close(name);
            return answer.put("error", "no answer in " + TIMEOUT_MS + " ms");
        }
        short headerVersion = key.responseHeaderVersion(version);
        ResponseHeader header = ResponseHeader.parse(received, headerVersion);
        if (header.correlationId() != correlationId)
            return answer.put("error", "correlation id " + header.correlationId() + " for " + correlationId);
        ByteBuffer body = received.slice();
        ApiMessage response = ApiMessageType.fromApiKey(key.id).newResponse();
        response.read(new ByteBufferAccessor(received), version);
        answer.set("body", json(response, version));
        answer.put("left", received.remaining());
        body.limit(body.limit() - received.remaining());
        answer.put("same", body.equals(MessageUtil.toByteBufferAccessor(response, version).buffer()));
        return answer;
    }

    private ByteBuffer send(String name, ApiKeys key, short version, ApiMessage request) throws IOException {
        Socket socket = sockets.get(name);
        if (socket == null) {
            socket = new Socket(host, port);
            socket.setSoTimeout(TIMEOUT_MS);
            sockets.put(name, socket);
        }
        RequestHeader header = new RequestHeader(key, version, "api-sweep", ++correlationId);
        ByteBuffer head = MessageUtil.toByteBufferAccessor(header.data(), header.headerVersion()).buffer();
        ByteBuffer body = MessageUtil.toByteBufferAccessor(request, version).buffer();
        ByteBuffer frame = ByteBuffer.allocate(4 + head.remaining() + body.remaining());
        frame.putInt(head.remaining() + body.remaining()).put(head).put(body);
        socket.getOutputStream().write(frame.array());
        DataInputStream in = new DataInputStream(socket.getInputStream());
        byte[] received = new byte[in.readInt()];
        in.readFully(received);
        return ByteBuffer.wrap(received);
    }

    private void close(String name) throws IOException {
        sockets.remove(name).close();
    }

    /** Show a message with the generated converters; records show as their size. */
    private static JsonNode json(ApiMessage message, short version) throws ReflectiveOperationException {
        Class<?> converter = Class.forName(message.getClass().getName() + "JsonConverter");
        for (Method method : converter.getMethods())
            if (method.getName().equals("write") && method.getParameterCount() == 3)
                return (JsonNode) method.invoke(null, message, version, false);
        return (JsonNode) converter.getMethod("write", message.getClass(), short.class).invoke(null, message, version);
    }

    /** Set the given fields of a message or of a structure in it, as far as the version has them. */
    private static void fill(Object target, JsonNode given, short version) throws ReflectiveOperationException {
        Class<?> type = target.getClass();
        Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
        Iterator<Map.Entry<String, JsonNode>> fields = given.fields();
        while (fields.hasNext()) {
            Map.Entry<String, JsonNode> field = fields.next();
            String wireName = MessageNames.snake(field.getKey());
            if (Arrays.stream(schemas).noneMatch(schema -> schema != null && has(schema, wireName)))
                throw new IllegalArgumentException(type.getSimpleName() + " has no field " + field.getKey());
            if (!has(schemas[version], wireName))
                continue;
            String setter = "set" + Character.toUpperCase(field.getKey().charAt(0)) + field.getKey().substring(1);
            Method method = Arrays.stream(type.getMethods())
                .filter(one -> one.getName().equals(setter) && one.getParameterCount() == 1)
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("no " + setter + " in " + type.getSimpleName()));
            method.invoke(target, value(method.getGenericParameterTypes()[0], field.getValue(), version));
        }
    }

    private static boolean has(Schema schema, String name) {
        for (BoundField field : schema.fields()) {
            if (field.def.name.equals(name))
                return true;
            if (field.def.type instanceof TaggedFields)
                for (Field tagged : ((TaggedFields) field.def.type).fields().values())
                    if (tagged.name.equals(name))
                        return true;
        }
        return false;
    }

    private static Object value(Type wanted, JsonNode given, short version) throws ReflectiveOperationException {
        if (given.isNull())
            return null;
        if (wanted instanceof ParameterizedType) {
            List<Object> list = new ArrayList<>();
            for (JsonNode one : given)
                list.add(value(((ParameterizedType) wanted).getActualTypeArguments()[0], one, version));
            return list;
        }
        Class<?> type = (Class<?>) wanted;
        if (Collection.class.isAssignableFrom(type)) {
            @SuppressWarnings("unchecked")
            Collection<Object> all = (Collection<Object>) type.getConstructor().newInstance();
            Type element = ((ParameterizedType) type.getGenericSuperclass()).getActualTypeArguments()[0];
            for (JsonNode one : given)
                all.add(value(element, one, version));
            return all;
        }
        switch (type.getSimpleName()) {
            case "boolean": return given.asBoolean();
            case "byte": case "Byte": return (byte) given.asInt();
            case "short": case "Short": return (short) given.asInt();
            case "int": case "Integer": return given.asInt();
            case "long": case "Long": return given.asLong();
            case "double": case "Double": return given.asDouble();
            case "String": return given.asText();
            case "Uuid": return Uuid.fromString(given.asText());
            case "byte[]": return Base64.getDecoder().decode(given.asText());
            case "ByteBuffer": return ByteBuffer.wrap(Base64.getDecoder().decode(given.asText()));
            case "BaseRecords": return records(given);
            default:
        }
        Message structure = (Message) type.getConstructor().newInstance();
        fill(structure, given, version);
        return structure;
    }

    /** Build a batch: {"values": [...]} and, if wanted, key, codec, producerId, epoch, sequence, transactional. */
    private static MemoryRecords records(JsonNode given) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(
            ByteBuffer.allocate(1 << 16), RecordBatch.CURRENT_MAGIC_VALUE,
            Compression.of(CompressionType.forName(given.path("codec").asText("none"))).build(),
            TimestampType.CREATE_TIME, 0L, RecordBatch.NO_TIMESTAMP,
            given.path("producerId").asLong(RecordBatch.NO_PRODUCER_ID),
            (short) given.path("epoch").asInt(RecordBatch.NO_PRODUCER_EPOCH),
            given.path("sequence").asInt(RecordBatch.NO_SEQUENCE),
            given.path("transactional").asBoolean(false), false, RecordBatch.NO_PARTITION_LEADER_EPOCH, 1 << 16);
        byte[] key = given.has("key") ? given.get("key").asText().getBytes(StandardCharsets.UTF_8) : null;
        long timestampMs = System.currentTimeMillis() - 1_000;
        for (JsonNode one : given.get("values"))
            builder.append(timestampMs++, key, one.asText().getBytes(StandardCharsets.UTF_8));
        return builder.build();
    }

    /** Names as the schemas have them. */
    private static final class MessageNames {
        static String snake(String camel) {
            return camel.replaceAll("([A-Z])", "_$1").toLowerCase(java.util.Locale.ROOT);
        }
    }
}
