// Serves the telemetry ports of many simulated engine pods, each on a loopback address of its own.
//
// Every pod has a sample of each whole second, as a real engine has: GET /snapshot gives the newest, ?at=SECOND one of
// the last ten, and a second that has not passed yet is not there. GET /metrics gives the newest to Prometheus. What a
// sample holds comes from templates, one line of JSON for each pod; only what changes with time is filled in here:
//
//	@second@      the second on which the sample was closed, Unix time
//	@sampled_at@  the same as text
//	@events@      events since the start, a thousand a second
//	@changing@    a figure that is another one each second: the second modulo a million
//
// It prints "serving" once all pods listen, and ends with its input. Bounded: a connection that says nothing for two
// minutes is closed, headers are short, and there is no body to read.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	samplesKept   = 10
	lineBytesMax  = 1 << 20
	idleSeconds   = 120
	headerBytes   = 1 << 13
	changesWithin = 1_000_000
)

type pod struct {
	Address  string `json:"address"`
	Snapshot string `json:"snapshot"`
	Metrics  string `json:"metrics"`
}

// parts is a template, cut at its places: text, place, text, place, …, text.
type parts []string

func cut(template string) parts {
	return strings.Split(template, "@")
}

func (template parts) fill(second int64) []byte {
	var filled bytes.Buffer
	for index, text := range template {
		if index%2 == 0 {
			filled.WriteString(text)
			continue
		}
		switch text {
		case "second":
			filled.WriteString(strconv.FormatInt(second, 10))
		case "sampled_at":
			filled.WriteString(time.Unix(second, 0).UTC().Format(time.RFC3339))
		case "events":
			filled.WriteString(strconv.FormatInt(second%changesWithin*1000, 10))
		case "changing":
			filled.WriteString(strconv.FormatInt(second%changesWithin, 10))
		}
	}
	return filled.Bytes()
}

func check(template parts) error {
	for index, text := range template {
		switch {
		case index%2 == 0, text == "second", text == "sampled_at", text == "events", text == "changing":
		default:
			return fmt.Errorf("a template has the unknown place @%s@", text)
		}
	}
	return nil
}

func handler(snapshot, metrics parts) http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /snapshot", func(answer http.ResponseWriter, request *http.Request) {
		newest := time.Now().Unix()
		second := newest
		if at := request.URL.Query().Get("at"); at != "" {
			var err error
			if second, err = strconv.ParseInt(at, 10, 64); err != nil {
				http.Error(answer, "at: must be a Unix time in whole seconds", http.StatusBadRequest)
				return
			}
		}
		if second > newest || second <= newest-samplesKept {
			http.Error(answer, "no sample of that second is kept", http.StatusNotFound)
			return
		}
		give(answer, "application/json; charset=utf-8", snapshot.fill(second))
	})
	routes.HandleFunc("GET /metrics", func(answer http.ResponseWriter, _ *http.Request) {
		give(answer, "text/plain; version=0.0.4; charset=utf-8", metrics.fill(time.Now().Unix()))
	})
	return routes
}

func give(answer http.ResponseWriter, contentType string, body []byte) {
	answer.Header().Set("Content-Type", contentType)
	answer.Header().Set("Content-Length", strconv.Itoa(len(body)))
	// A reader that went away is no concern of a pod's.
	_, _ = answer.Write(body)
}

func serve(described pod, port int) error {
	snapshot, metrics := cut(described.Snapshot), cut(described.Metrics)
	for _, template := range []parts{snapshot, metrics} {
		if err := check(template); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(described.Address, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler(snapshot, metrics),
		ReadHeaderTimeout: idleSeconds * time.Second,
		IdleTimeout:       idleSeconds * time.Second,
		MaxHeaderBytes:    headerBytes,
	}
	go func() { log.Fatal(server.Serve(listener)) }()
	return nil
}

func run(file string, port int) error {
	described, err := os.Open(file)
	if err != nil {
		return err
	}
	defer described.Close()
	lines := bufio.NewScanner(described)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		var found pod
		if err := json.Unmarshal(lines.Bytes(), &found); err != nil {
			return err
		}
		if err := serve(found, port); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	file := flag.String("pods", "", "the pods' templates, one JSON object a line: address, snapshot, metrics")
	port := flag.Int("port", 9464, "port at each address")
	flag.Parse()
	if err := run(*file, *port); err != nil {
		log.Fatal(err)
	}
	fmt.Println("serving")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
