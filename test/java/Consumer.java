import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Consumes a topic with RocketMQ's own client from its beginning and prints one JSON line for each message delivered,
 * again for one delivered again. Ends when `count` different ones were there or the seconds are over.
 *
 * --namesrv ip:port --topic T [--count N] [--seconds S] [--group G] [--ordered]
 */
public final class Consumer {
  private final Lines lines = new Lines();
  private final Set<String> seen = ConcurrentHashMap.newKeySet();
  private final AtomicLong delivered = new AtomicLong();
  private final CountDownLatch enough = new CountDownLatch(1);
  private final long count;

  private Consumer(long count) {
    this.count = count;
  }

  public static void main(String[] args) throws Exception {
    Options options = new Options(args);
    new Consumer(options.number("count", Long.MAX_VALUE)).consume(options);
    Runtime.getRuntime().halt(0);
  }

  private void consume(Options options) throws Exception {
    String unique = Long.toString(System.nanoTime() & Long.MAX_VALUE, 36) + "-" + ProcessHandle.current().pid();
    DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(options.text("group", "teetest-consumers-" + unique));
    consumer.setNamesrvAddr(options.need("namesrv"));
    consumer.setInstanceName("consumer-" + unique);
    consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
    consumer.subscribe(options.need("topic"), "*");
    if (options.has("ordered")) {
      consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
        take(messages);
        return ConsumeOrderlyStatus.SUCCESS;
      });
    } else {
      consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
        take(messages);
        return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
      });
    }
    consumer.start();
    lines.print("{\"ready\":true}");
    enough.await(options.number("seconds", 60), TimeUnit.SECONDS);
    // Stores how far it came.
    consumer.shutdown();
    lines.print("{\"done\":true,\"consumed\":" + delivered + ",\"different\":" + seen.size() + "}");
    lines.flush();
  }

  private void take(List<MessageExt> messages) {
    for (MessageExt message : messages) {
      lines.print("{\"keys\":" + Lines.quoted(message.getKeys())
          + ",\"uniqKey\":" + Lines.quoted(message.getProperty("UNIQ_KEY"))
          + ",\"tags\":" + Lines.quoted(message.getTags())
          + ",\"bodySha1\":" + Lines.quoted(Lines.sha1(message.getBody()))
          + ",\"properties\":" + Lines.object(message.getProperties())
          + ",\"queueId\":" + message.getQueueId()
          + ",\"queueOffset\":" + message.getQueueOffset()
          + ",\"storeHost\":" + Lines.quoted(hostOf(message)) + "}");
      delivered.incrementAndGet();
      seen.add(hostOf(message) + " " + message.getQueueId() + " " + message.getQueueOffset());
    }
    if (seen.size() >= count) enough.countDown();
  }

  private static String hostOf(MessageExt message) {
    java.net.InetSocketAddress host = (java.net.InetSocketAddress) message.getStoreHost();
    return host.getAddress().getHostAddress() + ":" + host.getPort();
  }
}
