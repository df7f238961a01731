import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/**
 * Sends messages with RocketMQ's own client and prints one JSON line for each that was acknowledged or failed.
 *
 * --namesrv ip:port --topic T --mode sync|async|ordered|batch|oneway --count N
 * Of several modes (`sync,batch`) each is a producer of its own, one after the other, with topic T-MODE.
 * [--rate PER-SECOND] [--size BYTES] [--threads N] [--seconds S] [--retries N] [--timeout MS] [--outstanding N]
 * [--batch N] [--seed N] [--run TEXT] [--group G]
 */
public final class Producer {
  private static final String[] TAGS = {"red", "green", null, "blue"};
  private static final String LONG_VALUE = "a long value, 長い値. ".repeat(60);

  private final Options options;
  private final Lines lines = new Lines();
  private final DefaultMQProducer producer;
  private final String topic;
  private final String mode;
  private final String run;
  private final long seed;
  private final long count;
  private final long rate;
  private final int size;
  private final long startedAt = System.nanoTime();
  private final long endsAt;
  private final Semaphore outstanding;
  private final AtomicLong next = new AtomicLong();
  private final AtomicLong acked = new AtomicLong();
  private final AtomicLong failed = new AtomicLong();
  private final AtomicLong longestNanos = new AtomicLong();

  /** A message with what is told of it, which the client may change on its way. */
  private static final class Sent {
    final long i;
    final Message message;
    final String bodySha1;
    final Map<String, String> properties;

    Sent(long i, Message message, Map<String, String> properties) {
      this.i = i;
      this.message = message;
      this.bodySha1 = Lines.sha1(message.getBody());
      this.properties = properties;
    }
  }

  private interface Work {
    void run() throws Exception;
  }

  private Producer(Options options, String topic, String mode) {
    this.options = options;
    this.topic = topic;
    this.mode = mode;
    long unique = System.nanoTime() ^ (ProcessHandle.current().pid() << 40);
    run = options.text("run", Long.toString(unique & Long.MAX_VALUE, 36));
    seed = options.number("seed", 1);
    boolean timed = options.has("seconds");
    count = options.number("count", timed ? Long.MAX_VALUE : 100);
    endsAt = timed ? startedAt + TimeUnit.SECONDS.toNanos(options.number("seconds", 0)) : Long.MAX_VALUE;
    rate = options.number("rate", 0);
    size = (int) options.number("size", 0);
    outstanding = new Semaphore((int) options.number("outstanding", 64));
    producer = new DefaultMQProducer(options.text("group", "teetest-producers"));
    producer.setNamesrvAddr(options.need("namesrv"));
    producer.setInstanceName("producer-" + run);
    int retries = (int) options.number("retries", 0);
    producer.setRetryTimesWhenSendFailed(retries);
    producer.setRetryTimesWhenSendAsyncFailed(retries);
    producer.setSendMsgTimeout((int) options.number("timeout", 3000));
  }

  public static void main(String[] args) throws Exception {
    Options options = new Options(args);
    String topic = options.need("topic");
    String[] modes = options.text("mode", "sync").split(",");
    for (String mode : modes) new Producer(options, modes.length > 1 ? topic + "-" + mode : topic, mode).send();
    // Clients keep threads that would delay the end.
    Runtime.getRuntime().halt(0);
  }

  private void send() throws Exception {
    producer.start();
    int threads = (int) options.number("threads", 1);
    if (mode.equals("ordered")) threads = Math.min(threads, 8);
    List<Thread> senders = new ArrayList<>();
    for (int t = 0; t < threads; t++) {
      Work work = workOf(t, threads);
      Thread sender = new Thread(() -> {
        try {
          work.run();
        } catch (Throwable e) {
          lines.print("{\"i\":-1,\"error\":" + Lines.quoted(e.toString()) + "}");
          failed.incrementAndGet();
        }
      }, "sender-" + t);
      senders.add(sender);
      sender.start();
    }
    for (Thread sender : senders) sender.join();
    outstanding.acquire((int) options.number("outstanding", 64));
    lines.print("{\"done\":true,\"acked\":" + acked + ",\"failed\":" + failed + ",\"maxMs\":"
        + TimeUnit.NANOSECONDS.toMillis(longestNanos.get()) + "}");
    lines.flush();
    producer.shutdown();
  }

  private Work workOf(int thread, int threads) {
    switch (mode) {
      case "sync":
        return () -> each(this::sendSync);
      case "async":
        return () -> each(this::sendAsync);
      case "oneway":
        return () -> each(this::sendOneway);
      case "batch":
        return this::sendBatches;
      case "ordered":
        return () -> sendOrdered(thread, threads);
      default:
        throw new IllegalArgumentException("no such mode: " + mode);
    }
  }

  private interface Sender {
    void send(long i) throws Exception;
  }

  private void each(Sender sender) throws Exception {
    for (long i = next.getAndIncrement(); i < count && due(i); i = next.getAndIncrement()) sender.send(i);
  }

  /** Waits for a message's turn; false when the time is over. */
  private boolean due(long i) {
    long at = rate > 0 ? startedAt + i * 1_000_000_000L / rate : startedAt;
    if (at - endsAt > 0 && endsAt != Long.MAX_VALUE) at = endsAt;
    for (long wait = at - System.nanoTime(); wait > 0; wait = at - System.nanoTime()) LockSupport.parkNanos(wait);
    return endsAt == Long.MAX_VALUE || System.nanoTime() - endsAt < 0;
  }

  private void sendSync(long i) throws InterruptedException {
    Sent sent = make(i, false);
    long began = System.nanoTime();
    try {
      SendResult result = producer.send(sent.message);
      took(began);
      tellAcked(sent, result, 0);
    } catch (InterruptedException e) {
      throw e;
    } catch (Exception e) {
      took(began);
      tellFailed(i, e);
    }
  }

  private void sendAsync(long i) throws InterruptedException {
    Sent sent = make(i, false);
    outstanding.acquire();
    long began = System.nanoTime();
    // A client that throws may have called back too, or call back twice: only the first counts.
    AtomicLong told = new AtomicLong();
    try {
      producer.send(sent.message, new SendCallback() {
        @Override
        public void onSuccess(SendResult result) {
          if (told.getAndIncrement() > 0) return;
          took(began);
          tellAcked(sent, result, 0);
          outstanding.release();
        }

        @Override
        public void onException(Throwable e) {
          if (told.getAndIncrement() > 0) return;
          took(began);
          tellFailed(i, e);
          outstanding.release();
        }
      });
    } catch (InterruptedException e) {
      throw e;
    } catch (Exception e) {
      if (told.getAndIncrement() > 0) return;
      took(began);
      tellFailed(i, e);
      outstanding.release();
    }
  }

  private void sendOneway(long i) throws InterruptedException {
    Sent sent = make(i, false);
    long began = System.nanoTime();
    try {
      producer.sendOneway(sent.message);
      took(began);
      acked.incrementAndGet();
      tell(sent, -1, -1, null, "ONEWAY");
    } catch (InterruptedException e) {
      throw e;
    } catch (Exception e) {
      took(began);
      tellFailed(i, e);
    }
  }

  /** Messages of one key, of which there are 8, are sent by one thread, one after another, to one queue. */
  private void sendOrdered(int thread, int threads) throws InterruptedException {
    for (long i = 0; i < count; i++) {
      int key = (int) (i % 8);
      if (key % threads != thread) continue;
      if (!due(i)) return;
      Sent sent = make(i, false);
      long began = System.nanoTime();
      try {
        SendResult result = producer.send(sent.message, (queues, message, argument) -> queues.get(key % queues.size()), key);
        took(began);
        tellAcked(sent, result, 0);
      } catch (InterruptedException e) {
        throw e;
      } catch (Exception e) {
        took(began);
        tellFailed(i, e);
      }
    }
  }

  private void sendBatches() throws InterruptedException {
    while (true) {
      long fixed = options.number("batch", 0);
      long wanted = fixed > 0 ? fixed : 10 + new Random(seed * 31 + next.get()).nextInt(41);
      long first = next.getAndAdd(wanted);
      if (first >= count || !due(first)) return;
      List<Sent> batch = new ArrayList<>();
      List<Message> messages = new ArrayList<>();
      for (long i = first; i < Math.min(first + wanted, count); i++) {
        batch.add(make(i, true));
        messages.add(batch.get(batch.size() - 1).message);
      }
      long began = System.nanoTime();
      try {
        SendResult result = producer.send(messages);
        took(began);
        for (int k = 0; k < batch.size(); k++) tellAcked(batch.get(k), result, k);
      } catch (InterruptedException e) {
        throw e;
      } catch (Exception e) {
        took(began);
        for (Sent sent : batch) tellFailed(sent.i, e);
      }
    }
  }

  private Sent make(long i, boolean small) {
    Random random = new Random(seed * 1_000_003 + i);
    int length = size > 0 ? size : small ? 20 + random.nextInt(200) : 100 + random.nextInt(5900);
    Message message = new Message(topic, TAGS[(int) (i % TAGS.length)], "K-" + run + "-" + i, body(random, length));
    Map<String, String> properties = new LinkedHashMap<>();
    properties.put("index", Long.toString(i));
    properties.put("city", i % 2 == 0 ? "Zürich" : "東京 🗼");
    properties.put("ключ", "значение " + i % 10);
    properties.put("key", Long.toString(i % 8));
    if (i % 5 == 0) properties.put("long", LONG_VALUE);
    properties.forEach(message::putUserProperty);
    return new Sent(i, message, properties);
  }

  /** All byte values where there is room for them, then stretches of noise and of one value, which compress in part. */
  private static byte[] body(Random random, int length) {
    byte[] body = new byte[length];
    random.nextBytes(body);
    int start = random.nextInt(256);
    for (int j = 0; j < Math.min(256, length); j++) body[j] = (byte) (start + j);
    for (int j = 256; j < length; j++) if ((j >> 7 & 1) == 0) body[j] = (byte) (j >> 8);
    return body;
  }

  private void took(long began) {
    long nanos = System.nanoTime() - began;
    longestNanos.accumulateAndGet(nanos, Math::max);
  }

  private void tellAcked(Sent sent, SendResult result, int place) {
    acked.incrementAndGet();
    tell(sent, result.getMessageQueue().getQueueId(), result.getQueueOffset() + place,
        result.getMessageQueue().getBrokerName(), result.getSendStatus().name());
  }

  private void tell(Sent sent, int queueId, long queueOffset, String brokerName, String status) {
    lines.print("{\"i\":" + sent.i
        + ",\"topic\":" + Lines.quoted(topic)
        + ",\"keys\":" + Lines.quoted(sent.message.getKeys())
        + ",\"uniqKey\":" + Lines.quoted(sent.message.getProperty("UNIQ_KEY"))
        + ",\"tags\":" + Lines.quoted(sent.message.getTags())
        + ",\"bodySha1\":" + Lines.quoted(sent.bodySha1)
        + ",\"properties\":" + Lines.object(sent.properties)
        + ",\"queueId\":" + queueId
        + ",\"queueOffset\":" + queueOffset
        + ",\"brokerName\":" + Lines.quoted(brokerName)
        + ",\"status\":" + Lines.quoted(status) + "}");
  }

  private void tellFailed(long i, Throwable e) {
    failed.incrementAndGet();
    lines.print("{\"i\":" + i + ",\"error\":" + Lines.quoted(e.toString()) + "}");
  }
}
