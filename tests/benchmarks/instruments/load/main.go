// Asks an HTTPS server for paths at a fixed rate, in an open loop, and prints what it measured as one JSON document.
//
// A schedule says when each request is due. Latency is the time from then until the whole answer has arrived, whatever
// became of the requests before. With -changing it also tells when a change becomes visible: every answer's value is
// then the second of the sample (see ../pods), each path has a series of its own, and the change behind the sample of
// second s is taken to have happened somewhere within the second before, at a phase that is spread evenly.
//
// Bounded: so many requests at a time and no more; one that finds no room counts as failed.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	atATimeMax     = 4096
	answerBytesMax = 64 << 20
	changesWithin  = 1_000_000
	// The fractional part of the golden ratio spreads phases evenly, whatever their number.
	spread = 0.6180339887498949
)

var value = regexp.MustCompile(`"value":\s*"([0-9]+)(k?)"`)

type options struct {
	server, authority, certificate, key, serverName, paths string
	rate, seconds, warmup, timeout                         float64
	http1, changing                                        bool
}

// histogram counts values by their first three digits.
type histogram struct {
	counts map[int64]int64
	max    int64
}

func newHistogram() *histogram {
	return &histogram{counts: map[int64]int64{}}
}

func (found *histogram) add(nanoseconds int64) {
	unit := int64(1)
	for nanoseconds/unit >= 1000 {
		unit *= 10
	}
	// Rounded up: no percentile is ever shown smaller than it was.
	found.counts[(nanoseconds+unit-1)/unit*unit]++
	found.max = max(found.max, nanoseconds)
}

func (found *histogram) MarshalJSON() ([]byte, error) {
	pairs := make([][2]int64, 0, len(found.counts))
	for nanoseconds, count := range found.counts {
		pairs = append(pairs, [2]int64{nanoseconds, count})
	}
	return json.Marshal(map[string]any{"counts": pairs, "max": found.max})
}

type result struct {
	Requests int64            `json:"requests"`
	Failed   int64            `json:"failed"`
	Bytes    int64            `json:"bytes"`
	Codes    map[string]int64 `json:"codes"`
	Refusal  string           `json:"refusal"`
	Latency  *histogram       `json:"latency"`
	Visible  *histogram       `json:"visible"`
}

type measuring struct {
	sync.Mutex
	result
	newest  map[string]int64
	changes int64
}

func (m *measuring) note(path string, due, done time.Time, code int, body []byte, err error, counts bool) {
	m.Lock()
	defer m.Unlock()
	if !counts {
		return
	}
	m.Requests++
	m.Bytes += int64(len(body))
	name := strconv.Itoa(code)
	if err != nil {
		name = "none"
	}
	m.Codes[name]++
	if err != nil || code != http.StatusOK {
		m.Failed++
		if m.Refusal == "" {
			m.Refusal = fmt.Sprintf("%s: %.300s %v", path, body, err)
		}
		return
	}
	m.Latency.add(done.Sub(due).Nanoseconds())
}

// see notes the sample that an answer shows; the first answer with a sample tells when it became visible.
func (m *measuring) see(path string, done time.Time, body []byte, counts bool) {
	found := value.FindSubmatch(body)
	if found == nil {
		return
	}
	shown, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		return
	}
	if string(found[2]) == "k" {
		shown *= 1000
	}
	m.Lock()
	defer m.Unlock()
	before, known := m.newest[path]
	if known && shown <= before {
		return
	}
	m.newest[path] = shown
	if !counts || !known {
		return
	}
	now := done.Unix()
	for change := before + 1; change <= shown; change++ {
		second := now - now%changesWithin + change
		_, phase := math.Modf(float64(m.changes) * spread)
		m.changes++
		at := time.Unix(second-1, int64(phase*1e9))
		m.Visible.add(done.Sub(at).Nanoseconds())
	}
}

func client(o options) (*http.Client, error) {
	authority, err := os.ReadFile(o.authority)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(o.certificate, o.key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("the authority's file holds no certificate")
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: o.serverName},
		ForceAttemptHTTP2:   !o.http1,
		MaxIdleConnsPerHost: 25,
	}
	if o.http1 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: transport, Timeout: time.Duration(o.timeout * float64(time.Second))}, nil
}

// sleepUntil sleeps in the kernel. Go's own timers are up to a millisecond late where nothing else wakes the program,
// because its poller waits in whole milliseconds, and that would count as latency of whatever is asked.
func sleepUntil(due time.Time) {
	for left := time.Until(due); left > 0; left = time.Until(due) {
		wish := syscall.NsecToTimespec(left.Nanoseconds())
		// What interrupts it is no reason to ask too early.
		_ = syscall.Nanosleep(&wish, nil)
	}
}

func ask(asking *http.Client, url string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Accept", "application/json")
	answer, err := asking.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax))
	return answer.StatusCode, body, err
}

func readPaths(file string) ([]string, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	var paths []string
	lines := bufio.NewScanner(opened)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			paths = append(paths, line)
		}
	}
	if len(paths) == 0 && lines.Err() == nil {
		return nil, errors.New("there is no path to ask for")
	}
	return paths, lines.Err()
}

func measure(o options) (*result, error) {
	asking, err := client(o)
	if err != nil {
		return nil, err
	}
	paths, err := readPaths(o.paths)
	if err != nil {
		return nil, err
	}
	m := &measuring{newest: map[string]int64{}}
	m.result = result{Codes: map[string]int64{}, Latency: newHistogram(), Visible: newHistogram()}
	room := make(chan struct{}, atATimeMax)
	var all sync.WaitGroup
	begin := time.Now()
	counted := begin.Add(time.Duration(o.warmup * float64(time.Second)))
	for index := 0; float64(index) < o.rate*(o.warmup+o.seconds); index++ {
		due := begin.Add(time.Duration(float64(index) / o.rate * float64(time.Second)))
		sleepUntil(due)
		path, counts := paths[index%len(paths)], !due.Before(counted)
		select {
		case room <- struct{}{}:
		default:
			m.note(path, due, time.Now(), 0, nil, errors.New("too many requests are waiting"), counts)
			continue
		}
		all.Add(1)
		go func() {
			defer all.Done()
			defer func() { <-room }()
			code, body, err := ask(asking, o.server+path)
			done := time.Now()
			m.note(path, due, done, code, body, err, counts)
			if o.changing && err == nil && code == http.StatusOK {
				m.see(path, done, body, counts)
			}
		}()
	}
	all.Wait()
	return &m.result, nil
}

func main() {
	var o options
	flag.StringVar(&o.server, "server", "", "scheme, host and port")
	flag.StringVar(&o.authority, "authority", "", "file of the server's authority")
	flag.StringVar(&o.certificate, "certificate", "", "file of our certificate")
	flag.StringVar(&o.key, "key", "", "file of our key")
	flag.StringVar(&o.serverName, "server-name", "", "name in the server's certificate, if it isn't the host")
	flag.StringVar(&o.paths, "paths", "", "file of the paths, one a line, asked for in turn")
	flag.Float64Var(&o.rate, "rate", 100, "requests a second")
	flag.Float64Var(&o.seconds, "seconds", 10, "how long to measure")
	flag.Float64Var(&o.warmup, "warmup", 1, "seconds before that which don't count")
	flag.Float64Var(&o.timeout, "timeout", 30, "seconds until a request fails")
	flag.BoolVar(&o.http1, "http1", false, "HTTP/1.1 instead of HTTP/2 where the server has it")
	flag.BoolVar(&o.changing, "changing", false, "values tell the second of their sample")
	flag.Parse()
	found, err := measure(o)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}
