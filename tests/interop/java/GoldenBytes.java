import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.CRC32;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Prints every message and version that Apache Kafka's Java client knows, as bytes written by that client:
 * lines of name, "request" or "response", version, "full" or "bare", and the bytes in hexadecimal.
 * The values follow from the names of the fields; see tests/wire/test_kafka_golden_bytes.py.
 */
public final class GoldenBytes {
    public static void main(String[] args) throws Exception {
        for (ApiMessageType api : ApiMessageType.values()) {
            if (api.lowestSupportedVersion() > api.highestSupportedVersion(true)) {
                continue; // no version is left of it
            }
            print(api.name, "request", api.newRequest(), api.requestSchemas());
            print(api.name, "response", api.newResponse(), api.responseSchemas());
        }
    }

    static void print(String api, String direction, ApiMessage message, Schema[] schemas) throws Exception {
        for (short version = message.lowestSupportedVersion(); version <= message.highestSupportedVersion(); version++) {
            for (boolean full : new boolean[] {true, false}) {
                Schema schema = schemas[version];
                Object value = struct(schema, full);
                ByteBuffer plain = ByteBuffer.allocate(schema.sizeOf(value));
                schema.write(plain, value);
                plain.flip();
                ApiMessage read = direction.equals("request")
                    ? ApiMessageType.fromApiKey(message.apiKey()).newRequest()
                    : ApiMessageType.fromApiKey(message.apiKey()).newResponse();
                read.read(new ByteBufferAccessor(plain.duplicate()), version);
                ObjectSerializationCache cache = new ObjectSerializationCache();
                ByteBuffer written = ByteBuffer.allocate(read.size(cache, version));
                read.write(new ByteBufferAccessor(written), cache, version);
                written.flip();
                if (!written.equals(plain)) {
                    throw new IllegalStateException(api + " " + direction + " " + version + ": two ways, two results");
                }
                StringBuilder hex = new StringBuilder();
                while (written.hasRemaining()) {
                    hex.append(String.format("%02x", written.get()));
                }
                System.out.println(String.join(" ", api, direction, "" + version, full ? "full" : "bare", hex));
            }
        }
    }

    static Struct struct(Schema schema, boolean full) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, value(field.def.name, field.def.type, full));
        }
        return struct;
    }

    static Object value(String name, Type type, boolean full) {
        if (type instanceof TaggedFields) {
            Map<Integer, Object> tags = new TreeMap<>();
            if (full) {
                for (Map.Entry<Integer, Field> tag : ((TaggedFields) type).fields().entrySet()) {
                    tags.put(tag.getKey(), value(tag.getValue().name, tag.getValue().type, true));
                }
            }
            return tags;
        }
        if (!full && type.isNullable()) {
            return null;
        }
        if (type.isArray()) {
            Type element = type.arrayElementType().get();
            return full ? new Object[] {value(name, element, true), value(name + "2", element, true)} : new Object[0];
        }
        if (type instanceof Schema) {
            return struct((Schema) type, full);
        }
        byte[] text = full ? name.getBytes(StandardCharsets.UTF_8) : new byte[0];
        CRC32 crc = new CRC32();
        crc.update(text);
        long number = full ? crc.getValue() : 0;
        switch (type.toString()) {
            case "BOOLEAN": return full;
            case "INT8": return (byte) (number & 0x7f);
            case "INT16": return (short) (number & 0x7fff);
            case "UINT16": return (int) (number & 0xffff);
            case "INT32": return (int) (number & 0x7fffffff);
            case "UINT32": return number;
            case "INT64": return number * 65537;
            case "FLOAT64": return (double) number;
            case "UUID": return full ? new Uuid(number, number * 65537) : Uuid.ZERO_UUID;
            case "STRING": case "NULLABLE_STRING": case "COMPACT_STRING": case "COMPACT_NULLABLE_STRING":
                return new String(text, StandardCharsets.UTF_8);
            case "RECORDS": case "NULLABLE_RECORDS": case "COMPACT_RECORDS": case "COMPACT_NULLABLE_RECORDS":
                return MemoryRecords.readableRecords(ByteBuffer.wrap(text));
            default: return ByteBuffer.wrap(text);
        }
    }
}
