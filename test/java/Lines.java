import java.io.BufferedWriter;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** JSON lines on the standard output, flushed every 50 ms; whatever a client prints itself goes to standard error. */
final class Lines {
  private final BufferedWriter out =
      new BufferedWriter(new OutputStreamWriter(new FileOutputStream(FileDescriptor.out), StandardCharsets.UTF_8), 1 << 16);

  Lines() {
    System.setOut(System.err);
    Thread flusher = new Thread(() -> {
      try {
        while (true) {
          Thread.sleep(50);
          flush();
        }
      } catch (InterruptedException e) {
        // The end of the process.
      }
    }, "flusher");
    flusher.setDaemon(true);
    flusher.start();
  }

  synchronized void print(String line) {
    try {
      out.write(line);
      out.write('\n');
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  synchronized void flush() {
    try {
      out.flush();
    } catch (IOException e) {
      // Nobody reads any more, so there is nobody to work for.
      Runtime.getRuntime().halt(1);
    }
  }

  /** `null` becomes null. */
  static String quoted(String text) {
    if (text == null) return "null";
    StringBuilder json = new StringBuilder(text.length() + 2).append('"');
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '"' || c == '\\') json.append('\\').append(c);
      else if (c < 0x20 || c == 0x7f || c == 0x2028 || c == 0x2029) json.append(String.format("\\u%04x", (int) c));
      else json.append(c);
    }
    return json.append('"').toString();
  }

  static String object(Map<String, String> map) {
    StringBuilder json = new StringBuilder("{");
    for (Map.Entry<String, String> entry : map.entrySet()) {
      if (json.length() > 1) json.append(',');
      json.append(quoted(entry.getKey())).append(':').append(quoted(entry.getValue()));
    }
    return json.append('}').toString();
  }

  static String sha1(byte[] bytes) {
    try {
      StringBuilder hex = new StringBuilder(40);
      for (byte b : java.security.MessageDigest.getInstance("SHA-1").digest(bytes)) hex.append(String.format("%02x", b));
      return hex.toString();
    } catch (java.security.NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }
}
