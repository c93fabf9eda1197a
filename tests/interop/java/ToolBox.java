import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main methods of Apache Kafka's tools one after the other in one process.
 *
 * One JSON object a line comes in, {"main": class, "args": [...], "input": text}, and one goes out, {"exit": code,
 * "out": what it printed, "err": what it printed as errors}. A tool that exits is stopped by an exception
 * instead, and its shutdown hooks run then.
 */
public final class ToolBox {
    private static final class Exited extends Error {
        Exited(int code) {
            super("exit " + code, null, false, false);
            // Some tools take this for an error of theirs and exit again; what they wanted first counts.
            if (firstExit == null)
                firstExit = code;
        }
    }

    /** A stream whose target can be changed under those who keep it. */
    private static final class Switched extends OutputStream {
        volatile ByteArrayOutputStream target = new ByteArrayOutputStream();

        @Override
        public void write(int one) {
            target.write(one);
        }

        @Override
        public void write(byte[] some, int from, int count) {
            target.write(some, from, count);
        }
    }

    private static final List<Runnable> HOOKS = new ArrayList<>();
    private static Integer firstExit;

    public static void main(String[] args) throws IOException {
        ObjectMapper json = new ObjectMapper();
        PrintStream answers = System.out;
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Switched out = new Switched();
        Switched err = new Switched();
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        Exit.setExitProcedure((code, message) -> {
            throw new Exited(code);
        });
        Exit.setHaltProcedure((code, message) -> {
            throw new Exited(code);
        });
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode asked = json.readTree(line);
            out.target = new ByteArrayOutputStream();
            err.target = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(asked.path("input").asText("").getBytes(StandardCharsets.UTF_8)));
            List<String> words = new ArrayList<>();
            asked.get("args").forEach(word -> words.add(word.asText()));
            ObjectNode answer = json.createObjectNode();
            answer.put("exit", run(asked.get("main").asText(), words.toArray(new String[0])));
            System.out.flush();
            System.err.flush();
            answer.put("out", out.target.toString(StandardCharsets.UTF_8));
            answer.put("err", err.target.toString(StandardCharsets.UTF_8));
            answers.println(json.writeValueAsString(answer));
            answers.flush();
        }
    }

    private static int run(String main, String[] words) {
        int code = 0;
        firstExit = null;
        try {
            Class.forName(main).getMethod("main", String[].class).invoke(null, (Object) words);
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Exited)) {
                e.getCause().printStackTrace();
                code = 1;
            }
        } catch (ReflectiveOperationException e) {
            e.printStackTrace();
            code = 127;
        }
        HOOKS.forEach(Runnable::run);
        HOOKS.clear();
        return firstExit == null ? code : firstExit;
    }
}
