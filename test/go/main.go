// Sends messages with the Go client of RocketMQ and prints one JSON line for each that was acknowledged or failed. Its
// options and lines are those of test/java/Producer.java.
package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// What the producers of this client have in common.
type client interface {
	Start() error
	Shutdown() error
	SendSync(context.Context, ...*primitive.Message) (*primitive.SendResult, error)
	SendAsync(context.Context, func(context.Context, *primitive.SendResult, error), ...*primitive.Message) error
	SendOneWay(context.Context, ...*primitive.Message) error
}

var (
	nameServer  = flag.String("namesrv", "", "ip:port")
	topic       = flag.String("topic", "", "")
	mode        = flag.String("mode", "sync", "sync, async, ordered, batch or oneway")
	count       = flag.Int64("count", 0, "100 by default, without end where -seconds is given")
	seconds     = flag.Int64("seconds", 0, "")
	rate        = flag.Int64("rate", 0, "messages a second")
	size        = flag.Int("size", 0, "bytes of a body")
	threads     = flag.Int64("threads", 1, "")
	retries     = flag.Int("retries", 0, "")
	timeout     = flag.Int64("timeout", 3000, "milliseconds; this client waits at most 3000 itself")
	outstanding = flag.Int("outstanding", 64, "how many async sends may be unanswered")
	batchSize   = flag.Int64("batch", 0, "10 to 50 by default")
	seed        = flag.Int64("seed", 1, "")
	run         = flag.String("run", "", "")
	group       = flag.String("group", "teetest-go-producers", "")
)

var (
	tags      = []string{"red", "green", "", "blue"}
	longValue = strings.Repeat("a long value, 長い値. ", 60)
	statuses  = map[primitive.SendStatus]string{
		primitive.SendOK:                "SEND_OK",
		primitive.SendFlushDiskTimeout:  "FLUSH_DISK_TIMEOUT",
		primitive.SendFlushSlaveTimeout: "FLUSH_SLAVE_TIMEOUT",
		primitive.SendSlaveNotAvailable: "SLAVE_NOT_AVAILABLE",
	}
)

// A message with what is told of it, which the client may change on its way.
type sent struct {
	i          int64
	message    *primitive.Message
	bodySha1   string
	properties map[string]string
}

type ackedLine struct {
	I          int64             `json:"i"`
	Keys       string            `json:"keys"`
	UniqKey    *string           `json:"uniqKey"`
	Tags       *string           `json:"tags"`
	BodySha1   string            `json:"bodySha1"`
	Properties map[string]string `json:"properties"`
	QueueID    int               `json:"queueId"`
	Offset     int64             `json:"queueOffset"`
	BrokerName *string           `json:"brokerName"`
	Status     string            `json:"status"`
}

type failedLine struct {
	I     int64  `json:"i"`
	Error string `json:"error"`
}

type doneLine struct {
	Done   bool  `json:"done"`
	Acked  int64 `json:"acked"`
	Failed int64 `json:"failed"`
	MaxMs  int64 `json:"maxMs"`
}

var (
	p                   client
	startedAt           = time.Now()
	endsAt              time.Time
	next, acked, failed int64
	longest             int64
	slots               chan struct{}
)

func main() {
	standardOutput := os.Stdout
	// What anybody else prints is not for the reader of the lines.
	os.Stdout = os.Stderr
	flag.Parse()
	startLines(standardOutput)
	// This client logs each failed send, and goes on after an async one failed only to fall over it.
	rlog.SetLogLevel("fatal")
	primitive.PanicHandler = func(interface{}) {}
	if err := send(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		flushLines()
		os.Exit(1)
	}
	tell(doneLine{true, atomic.LoadInt64(&acked), atomic.LoadInt64(&failed), atomic.LoadInt64(&longest) / 1e6})
	flushLines()
	_ = p.Shutdown()
}

func send() error {
	if *nameServer == "" || *topic == "" {
		return fmt.Errorf("--namesrv and --topic are needed")
	}
	if *seconds > 0 {
		endsAt = startedAt.Add(time.Duration(*seconds) * time.Second)
	}
	if *count == 0 {
		*count = 100
		if *seconds > 0 {
			*count = 1 << 62
		}
	}
	if *run == "" {
		*run = strconv.FormatInt(startedAt.UnixNano()^int64(os.Getpid())<<40&(1<<62-1), 36)
	}
	slots = make(chan struct{}, *outstanding)
	options := []producer.Option{
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{*nameServer})),
		producer.WithGroupName(*group),
		producer.WithInstanceName("producer-" + *run),
		producer.WithRetry(*retries),
		producer.WithSendMsgTimeout(time.Duration(*timeout) * time.Millisecond),
	}
	if *mode == "ordered" {
		options = append(options, producer.WithQueueSelector(producer.NewHashQueueSelector()))
		if *threads > 8 {
			*threads = 8
		}
	}
	made, err := producer.NewDefaultProducer(options...)
	if err != nil {
		return err
	}
	p = made
	if err := p.Start(); err != nil {
		return err
	}
	work, known := map[string]func(thread int64){
		"sync":    func(int64) { each(sendSync) },
		"async":   func(int64) { each(sendAsync) },
		"oneway":  func(int64) { each(sendOneway) },
		"batch":   func(int64) { sendBatches() },
		"ordered": sendOrdered,
	}[*mode]
	if !known {
		return fmt.Errorf("no such mode: %s", *mode)
	}
	var senders sync.WaitGroup
	for thread := int64(0); thread < *threads; thread++ {
		senders.Add(1)
		go func(thread int64) {
			defer senders.Done()
			work(thread)
		}(thread)
	}
	senders.Wait()
	for i := 0; i < *outstanding; i++ {
		slots <- struct{}{}
	}
	return nil
}

func each(one func(i int64)) {
	for i := atomic.AddInt64(&next, 1) - 1; i < *count && due(i); i = atomic.AddInt64(&next, 1) - 1 {
		one(i)
	}
}

// Waits for a message's turn; false when the time is over.
func due(i int64) bool {
	at := startedAt
	if *rate > 0 {
		at = startedAt.Add(time.Duration(float64(i) * 1e9 / float64(*rate)))
	}
	if !endsAt.IsZero() && at.After(endsAt) {
		at = endsAt
	}
	time.Sleep(time.Until(at))
	return endsAt.IsZero() || time.Now().Before(endsAt)
}

func sendSync(i int64) {
	made := makeMessage(i, false)
	began := time.Now()
	result, err := p.SendSync(context.Background(), made.message)
	took(began)
	if err != nil {
		tellFailed(i, err)
	} else {
		tellAcked(made, result, 0)
	}
}

func sendAsync(i int64) {
	made := makeMessage(i, false)
	slots <- struct{}{}
	began := time.Now()
	// Called back twice, or called back and answered with an error: only the first counts.
	var once sync.Once
	settle := func(result *primitive.SendResult, err error) {
		once.Do(func() {
			took(began)
			if err != nil {
				tellFailed(i, err)
			} else {
				tellAcked(made, result, 0)
			}
			<-slots
		})
	}
	err := p.SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
		settle(result, err)
	}, made.message)
	if err != nil {
		settle(nil, err)
	}
}

func sendOneway(i int64) {
	made := makeMessage(i, false)
	began := time.Now()
	err := p.SendOneWay(context.Background(), made.message)
	took(began)
	if err != nil {
		tellFailed(i, err)
		return
	}
	atomic.AddInt64(&acked, 1)
	tellSent(made, -1, -1, nil, "ONEWAY")
}

// Messages of one key, of which there are 8, are sent by one thread, one after another, to one queue.
func sendOrdered(thread int64) {
	for i := int64(0); i < *count; i++ {
		key := i % 8
		if key%*threads != thread {
			continue
		}
		if !due(i) {
			return
		}
		made := makeMessage(i, false)
		made.message.WithShardingKey(strconv.FormatInt(key, 10))
		began := time.Now()
		result, err := p.SendSync(context.Background(), made.message)
		took(began)
		if err != nil {
			tellFailed(i, err)
		} else {
			tellAcked(made, result, 0)
		}
	}
}

func sendBatches() {
	for {
		wanted := *batchSize
		if wanted <= 0 {
			wanted = 10 + int64(rand.New(rand.NewSource(*seed*31+atomic.LoadInt64(&next))).Intn(41))
		}
		first := atomic.AddInt64(&next, wanted) - wanted
		if first >= *count || !due(first) {
			return
		}
		var batch []sent
		var messages []*primitive.Message
		for i := first; i < first+wanted && i < *count; i++ {
			made := makeMessage(i, true)
			batch = append(batch, made)
			messages = append(messages, made.message)
		}
		began := time.Now()
		result, err := p.SendSync(context.Background(), messages...)
		took(began)
		for place, made := range batch {
			if err != nil {
				tellFailed(made.i, err)
			} else {
				tellAcked(made, result, int64(place))
			}
		}
	}
}

func makeMessage(i int64, small bool) sent {
	random := rand.New(rand.NewSource(*seed*1_000_003 + i))
	length := *size
	if length == 0 && small {
		length = 20 + random.Intn(200)
	} else if length == 0 {
		length = 100 + random.Intn(5900)
	}
	message := primitive.NewMessage(*topic, body(random, length))
	if tag := tags[i%int64(len(tags))]; tag != "" {
		message.WithTag(tag)
	}
	message.WithKeys([]string{fmt.Sprintf("K-%s-%d", *run, i)})
	properties := map[string]string{
		"index": strconv.FormatInt(i, 10),
		"city":  "Zürich",
		"ключ":  "значение " + strconv.FormatInt(i%10, 10),
		"key":   strconv.FormatInt(i%8, 10),
	}
	if i%2 == 1 {
		properties["city"] = "東京 🗼"
	}
	if i%5 == 0 {
		properties["long"] = longValue
	}
	for name, value := range properties {
		message.WithProperty(name, value)
	}
	digest := sha1.Sum(message.Body)
	return sent{i, message, hex.EncodeToString(digest[:]), properties}
}

// All byte values where there is room for them, then stretches of noise and of one value, which compress in part.
func body(random *rand.Rand, length int) []byte {
	bytes := make([]byte, length)
	random.Read(bytes)
	start := random.Intn(256)
	for j := range bytes {
		if j < 256 {
			bytes[j] = byte(start + j)
		} else if j>>7&1 == 0 {
			bytes[j] = byte(j >> 8)
		}
	}
	return bytes
}

func took(began time.Time) {
	nanos := int64(time.Since(began))
	for {
		known := atomic.LoadInt64(&longest)
		if nanos <= known || atomic.CompareAndSwapInt64(&longest, known, nanos) {
			return
		}
	}
}

func tellAcked(made sent, result *primitive.SendResult, place int64) {
	atomic.AddInt64(&acked, 1)
	queue := result.MessageQueue
	tellSent(made, queue.QueueId, result.QueueOffset+place, &queue.BrokerName, statuses[result.Status])
}

func tellSent(made sent, queueID int, offset int64, brokerName *string, status string) {
	tell(ackedLine{
		I:    made.i,
		Keys: made.message.GetKeys(),
		// This client gives the members of a batch none.
		UniqKey:    textOrNull(made.message.GetProperty(primitive.PropertyUniqueClientMessageIdKeyIndex)),
		Tags:       textOrNull(made.message.GetTags()),
		BodySha1:   made.bodySha1,
		Properties: made.properties,
		QueueID:    queueID,
		Offset:     offset,
		BrokerName: brokerName,
		Status:     status,
	})
}

func tellFailed(i int64, err error) {
	atomic.AddInt64(&failed, 1)
	tell(failedLine{i, err.Error()})
}

func textOrNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

var (
	lines  *bufio.Writer
	linesM sync.Mutex
)

// JSON lines on the standard output, flushed every 50 ms.
func startLines(output *os.File) {
	lines = bufio.NewWriterSize(output, 1<<16)
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			flushLines()
		}
	}()
}

func flushLines() {
	linesM.Lock()
	defer linesM.Unlock()
	if lines.Flush() != nil {
		// Nobody reads any more, so there is nobody to work for.
		os.Exit(1)
	}
}

func tell(line interface{}) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	linesM.Lock()
	defer linesM.Unlock()
	_, _ = lines.Write(append(text, '\n'))
}
