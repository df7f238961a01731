import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * Decodes recorded frames with RocketMQ's own decoder: each argument is a file with one whole frame, its length first.
 * Prints one JSON line for each.
 */
public final class Decode {
  public static void main(String[] args) throws Exception {
    Lines lines = new Lines();
    for (String file : args) {
      Path path = Paths.get(file);
      ByteBuffer frame = ByteBuffer.wrap(Files.readAllBytes(path));
      int length = frame.getInt();
      if (length != frame.remaining()) throw new IllegalStateException(file + ": " + frame.remaining() + " bytes, not " + length);
      RemotingCommand command = RemotingCommand.decode(frame.slice());
      byte[] body = command.getBody() == null ? new byte[0] : command.getBody();
      Map<String, String> ext = new TreeMap<>();
      if (command.getExtFields() != null) ext.putAll(command.getExtFields());
      lines.print("{\"file\":" + Lines.quoted(path.getFileName().toString())
          + ",\"direction\":" + Lines.quoted((command.getFlag() & 1) == 1 ? "response" : "request")
          + ",\"code\":" + command.getCode()
          + ",\"opaque\":" + command.getOpaque()
          + ",\"flag\":" + command.getFlag()
          + ",\"language\":" + Lines.quoted(command.getLanguage().name())
          + ",\"version\":" + command.getVersion()
          + (command.getRemark() == null ? "" : ",\"remark\":" + Lines.quoted(command.getRemark()))
          + ",\"serialize\":" + Lines.quoted(command.getSerializeTypeCurrentRPC().name())
          + ",\"ext\":" + Lines.object(ext)
          + ",\"bodyBytes\":" + body.length
          + ",\"bodySha1\":" + Lines.quoted(Lines.sha1(body)) + "}");
    }
    lines.flush();
  }
}
