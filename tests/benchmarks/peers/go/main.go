// The Go peer: a channel between an injecting goroutine and one goroutine that owns the state, payloads in pooled
// buffers, decoded by encoding/json or by sonic into one reused struct.
//
// It prints the document that every measured system prints, and takes the same arguments; tests/benchmarks/native
// has the reference of both, and of the schedule.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/bytedance/sonic"
)

const (
	queueSlots       = 1 << 16
	longest          = int64(time.Minute)
	behindMax        = int64(time.Second)
	significantDigit = 3
	gcPercent        = 400
)

// schedule says when events are due: in each period a burst at its begin, the rest evenly.
type schedule struct{ period, events, burst int64 }

func newSchedule(rate, burst, periodMilliseconds int64) schedule {
	period := periodMilliseconds * int64(time.Millisecond)
	events := rate * period / int64(time.Second)
	return schedule{period, events, min(burst, events)}
}

func (s schedule) eventsIn(seconds int64) int64 {
	return s.events * (seconds * int64(time.Second) / s.period)
}

func (s schedule) due(event int64) int64 {
	start, place := event/s.events*s.period, event%s.events
	if place < s.burst {
		return start
	}
	return start + (place-s.burst)*s.period/(s.events-s.burst)
}

type message struct {
	buffer   *[]byte
	intended int64
}

// phase is what one phase of a run showed.
type phase struct {
	offered, completed, refused, outputBytes, elapsed int64
	overrun                                           bool
	latency                                           *hdrhistogram.Histogram
}

type run struct {
	payloads [][]byte
	next     int
	origin   time.Time
	buffers  sync.Pool
	queue    chan message
	decode   func([]byte, *event) error
	hunt     *hunt
}

func (r *run) now() int64 { return int64(time.Since(r.origin)) }

// work owns the state: it decodes, applies and renders until the queue is closed.
func (r *run) work(begin int64, p *phase, done *sync.WaitGroup) {
	defer done.Done()
	var e event
	out := make([]byte, 0, 1024)
	for m := range r.queue {
		e = event{}
		err := r.decode(*m.buffer, &e)
		applied := false
		if err == nil {
			out, applied = r.hunt.apply(&e, out[:0])
		}
		now := r.now()
		r.buffers.Put(m.buffer)
		if applied {
			p.outputBytes += int64(len(out))
		} else {
			p.refused++
		}
		p.completed++
		p.elapsed = now - begin
		_ = p.latency.RecordValue(min(max(now-m.intended, 1), longest))
	}
}

func (r *run) send(intended int64) {
	buffer := r.buffers.Get().(*[]byte)
	*buffer = append((*buffer)[:0], r.payloads[r.next]...)
	r.next = (r.next + 1) % len(r.payloads)
	r.queue <- message{buffer, intended}
}

func (r *run) measure(s schedule, seconds int64) *phase {
	p := &phase{latency: hdrhistogram.New(1, longest, significantDigit)}
	r.queue = make(chan message, queueSlots)
	begin := r.now()
	var done sync.WaitGroup
	done.Add(1)
	go r.work(begin, p, &done)
	if s.events == 0 {
		for end := begin + seconds*int64(time.Second); r.now() < end; p.offered++ {
			r.send(r.now())
		}
	}
	for total := s.eventsIn(seconds); s.events > 0 && p.offered < total && !p.overrun; p.offered++ {
		intended := begin + s.due(p.offered)
		for r.now() < intended {
			// Gives the worker the processor if it has none; a spinning loop would keep it for itself.
			runtime.Gosched()
		}
		p.overrun = r.now()-intended > behindMax
		r.send(intended)
	}
	close(r.queue)
	done.Wait()
	return p
}

func statusBytes(name string) int64 {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, name+":"); found {
			kibibytes, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kibibytes * 1024
		}
	}
	return 0
}

func histogram(h *hdrhistogram.Histogram) map[string]any {
	counts := [][2]int64{}
	for _, bar := range h.Distribution() {
		if bar.Count > 0 {
			counts = append(counts, [2]int64{bar.To, bar.Count})
		}
	}
	return map[string]any{"counts": counts, "max": h.Max()}
}

func main() {
	file := flag.String("file", "", "payloads, one a line")
	rate := flag.Int64("rate", 0, "events a second; 0: as fast as they are taken")
	burst := flag.Int64("burst", 0, "events at once in each period")
	period := flag.Int64("period", 10, "milliseconds")
	warmup := flag.Int64("warmup", 1, "seconds")
	seconds := flag.Int64("seconds", 1, "seconds")
	codec := flag.String("json", "std", "std or sonic")
	flag.Parse()
	debug.SetGCPercent(gcPercent)

	text, err := os.ReadFile(*file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	r := &run{
		payloads: bytes.Split(bytes.TrimSpace(text), []byte("\n")),
		origin:   time.Now(),
		buffers:  sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }},
		decode:   func(b []byte, e *event) error { return json.Unmarshal(b, e) },
		hunt:     newHunt(),
	}
	if *codec == "sonic" {
		// The buffer lives until the event was applied: strings may point into it.
		decoder := sonic.Config{CopyString: false, ValidateString: true}.Froze()
		r.decode = func(b []byte, e *event) error { return decoder.Unmarshal(b, e) }
	}
	s := newSchedule(*rate, *burst, *period)
	p := r.measure(s, *warmup)
	if !p.overrun {
		p = r.measure(s, *seconds)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	document, _ := json.Marshal(map[string]any{
		"profile": "release", "system": "go-" + *codec, "runtime": runtime.Version(),
		"offered": p.offered, "completed": p.completed, "refused": p.refused,
		"output_bytes": p.outputBytes, "elapsed_nanoseconds": p.elapsed, "seconds": *seconds,
		"overrun": p.overrun, "latency": histogram(p.latency),
		"peak_rss_bytes": statusBytes("VmHWM"),
		"collections":    memory.NumGC, "allocated_bytes": memory.TotalAlloc,
	})
	fmt.Println(string(document))
}
