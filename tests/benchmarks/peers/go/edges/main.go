// The Go peer of the arena's edge update: a map of edges for each vertex behind striped locks, packets in pooled
// buffers over a channel to one goroutine that applies them.
//
// It sends the same random packets at the same rate as the engine's program does, open loop, and prints the same
// document: latencies count from the moment that a packet was to be sent.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	vertices         = 256_000
	stripes          = 1024
	packetBytes      = 12
	queueSlots       = 1 << 16
	longest          = int64(time.Minute)
	significantDigit = 3
)

// random is SplitMix64, as in the engine's program.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	value := uint64(*r)
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9
	value = (value ^ (value >> 27)) * 0x94d049bb133111eb
	return value ^ (value >> 31)
}

func (r *random) below(bound uint64) uint32 { return uint32((r.next() >> 32) * bound >> 32) }

func (r *random) packet(bytes []byte) {
	binary.LittleEndian.PutUint32(bytes[0:], r.below(vertices))
	binary.LittleEndian.PutUint32(bytes[4:], r.below(vertices))
	binary.LittleEndian.PutUint32(bytes[8:], uint32(r.next()))
}

// graph holds the edges that leave each vertex. A stripe of locks lets readers search while edges change.
type graph struct {
	locks [stripes]sync.RWMutex
	edges [vertices]map[uint32]uint8
}

func (g *graph) update(packet []byte) bool {
	if len(packet) != packetBytes {
		return false
	}
	source, target := binary.LittleEndian.Uint32(packet), binary.LittleEndian.Uint32(packet[4:])
	if source >= vertices || target >= vertices {
		return false
	}
	mask := binary.LittleEndian.Uint32(packet[8:])
	lock := &g.locks[source%stripes]
	lock.Lock()
	defer lock.Unlock()
	if g.edges[source] == nil {
		g.edges[source] = make(map[uint32]uint8)
	}
	g.edges[source][target] = uint8(mask) ^ uint8(mask>>8)
	return true
}

// residentBytes is the memory of the process; 0 if the kernel doesn't tell.
func residentBytes() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			kibibytes, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kibibytes * 1024
		}
	}
	return 0
}

type message struct {
	packet   *[]byte
	intended int64
}

func main() {
	edges := flag.Int64("edges", 4_000_000, "edges that are there before")
	rate := flag.Int64("rate", 80_000, "updates a second")
	seconds := flag.Int64("seconds", 10, "seconds")
	flag.Parse()
	g := &graph{}
	r := random(1)
	packet := make([]byte, packetBytes)
	for range *edges {
		r.packet(packet)
		g.update(packet)
	}
	runtime.GC()

	origin := time.Now()
	now := func() int64 { return int64(time.Since(origin)) }
	buffers := sync.Pool{New: func() any { b := make([]byte, packetBytes); return &b }}
	queue := make(chan message, queueSlots)
	latency := hdrhistogram.New(1, longest, significantDigit)
	warmUp, total := *rate, *rate*(*seconds+1)
	var refused, applied int64
	var done sync.WaitGroup
	done.Go(func() {
		var count int64
		for m := range queue {
			if !g.update(*m.packet) {
				refused++
			}
			applied = now()
			buffers.Put(m.packet)
			if count++; count > warmUp {
				_ = latency.RecordValue(min(max(applied-m.intended, 1), longest))
			}
		}
	})
	began := now()
	for number := range total {
		intended := began + int64(float64(number)*1e9/float64(*rate))
		for now() < intended {
			// Gives the worker the processor if it has none; a spinning loop would keep it for itself.
			runtime.Gosched()
		}
		buffer := buffers.Get().(*[]byte)
		r.packet(*buffer)
		queue <- message{buffer, intended}
	}
	close(queue)
	done.Wait()

	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	counts := [][2]int64{}
	for _, bar := range latency.Distribution() {
		if bar.Count > 0 {
			counts = append(counts, [2]int64{bar.To, bar.Count})
		}
	}
	span := applied - began - int64(time.Second)
	document, _ := json.Marshal(map[string]any{
		"profile": "release", "runtime": runtime.Version(), "rate": *rate, "edges_loaded": *edges,
		"sustained_share": float64(*seconds) * 1e9 / float64(span), "refused": refused,
		"latency":     map[string]any{"counts": counts, "max": latency.Max()},
		"collections": memory.NumGC, "allocated_bytes": memory.TotalAlloc, "rss_bytes": residentBytes(),
	})
	fmt.Println(string(document))
}
