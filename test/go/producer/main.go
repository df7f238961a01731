// Sends messages with RocketMQ's Go client and prints one JSON line for each that was acknowledged or failed, as
// test/java/Producer.java does, with the same options.
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

var (
	namesrv     = flag.String("namesrv", "", "ip:port of the name server")
	topic       = flag.String("topic", "", "topic")
	mode        = flag.String("mode", "sync", "sync, async, ordered, batch or oneway")
	count       = flag.Int64("count", -1, "how many messages; 100, or without end where --seconds is given")
	rate        = flag.Int64("rate", 0, "messages a second")
	size        = flag.Int("size", 0, "bytes of a body")
	threads     = flag.Int("threads", 1, "how many send at once")
	seconds     = flag.Float64("seconds", 0, "how long to send")
	retries     = flag.Int("retries", 0, "how often to try again")
	timeout     = flag.Int("timeout", 3000, "milliseconds; the client itself uses 3000 whatever is said")
	outstanding = flag.Int("outstanding", 64, "how many asynchronous sends may be unanswered")
	batchSize   = flag.Int64("batch", 0, "messages of a batch; 10 to 50")
	seed        = flag.Int64("seed", 1, "of bodies and sizes")
	run         = flag.String("run", "", "part of every key")
	group       = flag.String("group", "teetest-producers", "producer group")

	tags      = []string{"red", "green", "", "blue"}
	longValue = strings.Repeat("a long value, 長い値. ", 60)

	next, acked, failed, longest atomic.Int64
	startedAt                    = time.Now()
	endsAt                       time.Time
	client                       interface {
		Start() error
		Shutdown() error
		SendSync(ctx context.Context, messages ...*primitive.Message) (*primitive.SendResult, error)
		SendAsync(ctx context.Context, f func(context.Context, *primitive.SendResult, error), messages ...*primitive.Message) error
		SendOneWay(ctx context.Context, messages ...*primitive.Message) error
	}

	outLock sync.Mutex
	out     = bufio.NewWriterSize(os.Stdout, 1<<16)
)

type sent struct {
	i          int64
	message    *primitive.Message
	bodySha1   string
	properties map[string]string
}

type ackedLine struct {
	I           int64             `json:"i"`
	Keys        string            `json:"keys"`
	UniqKey     string            `json:"uniqKey"`
	Tags        *string           `json:"tags"`
	BodySha1    string            `json:"bodySha1"`
	Properties  map[string]string `json:"properties"`
	QueueID     int               `json:"queueId"`
	QueueOffset int64             `json:"queueOffset"`
	BrokerName  *string           `json:"brokerName"`
	Status      string            `json:"status"`
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

func main() {
	flag.Parse()
	rlog.SetLogger(quiet{})
	if *run == "" {
		*run = strconv.FormatInt(time.Now().UnixNano(), 36) + strconv.FormatInt(int64(os.Getpid()), 36)
	}
	if *seconds > 0 {
		endsAt = startedAt.Add(time.Duration(*seconds * float64(time.Second)))
	}
	if *count < 0 {
		*count = 100
		if *seconds > 0 {
			*count = 1 << 62
		}
	}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			flush()
		}
	}()
	options := []producer.Option{
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{*namesrv})),
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
	created, err := producer.NewDefaultProducer(options...)
	if err == nil {
		client = created
		err = client.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	window := make(chan struct{}, *outstanding)
	var senders sync.WaitGroup
	for t := 0; t < *threads; t++ {
		senders.Add(1)
		go func() {
			defer senders.Done()
			switch *mode {
			case "sync":
				each(func(i int64) { sendSync(messageOf(i, false)) })
			case "async":
				each(func(i int64) { sendAsync(messageOf(i, false), window) })
			case "oneway":
				each(func(i int64) { sendOneway(messageOf(i, false)) })
			case "ordered":
				sendOrdered(t)
			case "batch":
				sendBatches()
			default:
				fmt.Fprintln(os.Stderr, "no such mode:", *mode)
				os.Exit(1)
			}
		}()
	}
	senders.Wait()
	// The window is whole again when every asynchronous send was told.
	for k := 0; k < *outstanding; k++ {
		window <- struct{}{}
	}
	printLine(doneLine{true, acked.Load(), failed.Load(), longest.Load() / int64(time.Millisecond)})
	flush()
	client.Shutdown()
}

func each(send func(i int64)) {
	for i := next.Add(1) - 1; i < *count && due(i); i = next.Add(1) - 1 {
		send(i)
	}
}

// due waits for a message's turn; false when the time is over.
func due(i int64) bool {
	if *rate > 0 {
		at := startedAt.Add(time.Duration(float64(i) / float64(*rate) * float64(time.Second)))
		if !endsAt.IsZero() && at.After(endsAt) {
			at = endsAt
		}
		time.Sleep(time.Until(at))
	}
	return endsAt.IsZero() || time.Now().Before(endsAt)
}

func sendSync(s sent) {
	began := time.Now()
	result, err := client.SendSync(context.Background(), s.message)
	took(began)
	if err != nil {
		tellFailed(s.i, err)
	} else {
		tellAcked(s, result, 0)
	}
}

func sendAsync(s sent, window chan struct{}) {
	window <- struct{}{}
	began := time.Now()
	// This client can call back twice for one send: only the first counts.
	var told atomic.Bool
	tell := func(result *primitive.SendResult, err error) {
		if told.Swap(true) {
			return
		}
		took(began)
		if err != nil {
			tellFailed(s.i, err)
		} else {
			tellAcked(s, result, 0)
		}
		<-window
	}
	err := client.SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
		tell(result, err)
	}, s.message)
	if err != nil {
		tell(nil, err)
	}
}

func sendOneway(s sent) {
	began := time.Now()
	err := client.SendOneWay(context.Background(), s.message)
	took(began)
	if err != nil {
		tellFailed(s.i, err)
		return
	}
	acked.Add(1)
	tell(s, -1, -1, nil, "ONEWAY")
}

// sendOrdered sends the messages of one key, of which there are 8, one after another to one queue.
func sendOrdered(thread int) {
	for i := int64(0); i < *count; i++ {
		if int(i%8)%*threads != thread {
			continue
		}
		if !due(i) {
			return
		}
		s := messageOf(i, false)
		s.message.WithShardingKey("key-" + strconv.FormatInt(i%8, 10))
		sendSync(s)
	}
}

func sendBatches() {
	for {
		wanted := *batchSize
		if wanted <= 0 {
			wanted = 10 + rand.New(rand.NewSource(*seed*31+next.Load())).Int63n(41)
		}
		first := next.Add(wanted) - wanted
		if first >= *count || !due(first) {
			return
		}
		var batch []sent
		var messages []*primitive.Message
		for i := first; i < first+wanted && i < *count; i++ {
			s := messageOf(i, true)
			batch = append(batch, s)
			messages = append(messages, s.message)
		}
		began := time.Now()
		result, err := client.SendSync(context.Background(), messages...)
		took(began)
		for k, s := range batch {
			if err != nil {
				tellFailed(s.i, err)
			} else {
				tellAcked(s, result, int64(k))
			}
		}
	}
}

func messageOf(i int64, small bool) sent {
	random := rand.New(rand.NewSource(*seed*1_000_003 + i))
	length := *size
	if length <= 0 && small {
		length = 20 + random.Intn(200)
	} else if length <= 0 {
		length = 100 + random.Intn(5900)
	}
	message := primitive.NewMessage(*topic, body(random, length))
	if tag := tags[i%int64(len(tags))]; tag != "" {
		message.WithTag(tag)
	}
	message.WithKeys([]string{fmt.Sprintf("K-%s-%d", *run, i)})
	properties := map[string]string{
		"index": strconv.FormatInt(i, 10),
		"city":  []string{"Zürich", "東京 🗼"}[i%2],
		"ключ":  fmt.Sprintf("значение %d", i%10),
		"key":   strconv.FormatInt(i%8, 10),
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

// body has all byte values where there is room for them, then stretches of noise and of one value, which compress in
// part.
func body(random *rand.Rand, length int) []byte {
	body := make([]byte, length)
	random.Read(body)
	start := random.Intn(256)
	for j := 0; j < length && j < 256; j++ {
		body[j] = byte(start + j)
	}
	for j := 256; j < length; j++ {
		if j>>7&1 == 0 {
			body[j] = byte(j >> 8)
		}
	}
	return body
}

func took(began time.Time) {
	nanos := int64(time.Since(began))
	for seen := longest.Load(); nanos > seen && !longest.CompareAndSwap(seen, nanos); seen = longest.Load() {
	}
}

func tellAcked(s sent, result *primitive.SendResult, place int64) {
	acked.Add(1)
	queue := result.MessageQueue
	tell(s, queue.QueueId, result.QueueOffset+place, &queue.BrokerName, statusOf(result.Status))
}

func statusOf(status primitive.SendStatus) string {
	switch status {
	case primitive.SendOK:
		return "SEND_OK"
	case primitive.SendFlushDiskTimeout:
		return "FLUSH_DISK_TIMEOUT"
	case primitive.SendFlushSlaveTimeout:
		return "FLUSH_SLAVE_TIMEOUT"
	case primitive.SendSlaveNotAvailable:
		return "SLAVE_NOT_AVAILABLE"
	}
	return "UNKNOWN"
}

func tell(s sent, queueID int, queueOffset int64, brokerName *string, status string) {
	var tag *string
	if value := s.message.GetTags(); value != "" {
		tag = &value
	}
	uniqKey := s.message.GetProperty(primitive.PropertyUniqueClientMessageIdKeyIndex)
	printLine(ackedLine{
		s.i, s.message.GetKeys(), uniqKey, tag, s.bodySha1, s.properties, queueID, queueOffset, brokerName, status,
	})
}

func tellFailed(i int64, err error) {
	failed.Add(1)
	printLine(failedLine{i, err.Error()})
}

func printLine(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	outLock.Lock()
	defer outLock.Unlock()
	out.Write(append(text, '\n'))
}

func flush() {
	outLock.Lock()
	defer outLock.Unlock()
	if out.Flush() != nil {
		// Nobody reads any more, so there is nobody to work for.
		os.Exit(1)
	}
}

// quiet takes the client's log: only errors are told, on standard error.
type quiet struct{}

func (quiet) Debug(string, map[string]interface{})   {}
func (quiet) Info(string, map[string]interface{})    {}
func (quiet) Warning(string, map[string]interface{}) {}
func (quiet) Error(text string, fields map[string]interface{}) {
	fmt.Fprintln(os.Stderr, text, fields)
}
func (quiet) Fatal(text string, fields map[string]interface{}) {
	fmt.Fprintln(os.Stderr, text, fields)
}
func (quiet) Level(string)            {}
func (quiet) OutputPath(string) error { return nil }
