// Metrics-decoder reads answers of the metrics APIs with the Go types that Kubernetes' own clients use, and
// writes them again.
//
// One question a line on standard input, {"mediaType": ..., "body": base64}; one answer a line on standard
// output: the kind, and the object as JSON and as protobuf, or an error. A JSON field that the types don't have
// is an error. Protobuf skips what it doesn't know, so whoever asks compares what comes back with what it sent.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	custommetricsv1beta1 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	custommetricsv1beta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetricsv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
)

const lineBytesMax = 64 << 20

type question struct {
	MediaType string `json:"mediaType"`
	Body      []byte `json:"body"`
}

type answer struct {
	Kind     string          `json:"kind,omitempty"`
	JSON     json.RawMessage `json:"json,omitempty"`
	Protobuf []byte          `json:"protobuf,omitempty"`
	Error    string          `json:"error,omitempty"`
}

type decoder struct {
	json     runtime.Serializer
	protobuf runtime.Serializer
}

func newDecoder() (*decoder, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		custommetricsv1beta1.AddToScheme,
		custommetricsv1beta2.AddToScheme,
		externalmetricsv1beta1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	options := jsonserializer.SerializerOptions{Strict: true}
	return &decoder{
		json:     jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, scheme, scheme, options),
		protobuf: protobuf.NewSerializer(scheme, scheme),
	}, nil
}

func (d *decoder) answer(asked question) (answer, error) {
	serializer := d.json
	switch asked.MediaType {
	case "application/json":
	case "application/vnd.kubernetes.protobuf":
		serializer = d.protobuf
	default:
		return answer{}, fmt.Errorf("no decoder for %q", asked.MediaType)
	}
	object, kind, err := serializer.Decode(asked.Body, nil, nil)
	if err != nil {
		return answer{}, err
	}
	// A decoder may leave the kind out of the object; what is written again has to say it.
	object.GetObjectKind().SetGroupVersionKind(*kind)
	var asJSON, asProtobuf bytes.Buffer
	if err := d.json.Encode(object, &asJSON); err != nil {
		return answer{}, err
	}
	if err := d.protobuf.Encode(object, &asProtobuf); err != nil {
		return answer{}, err
	}
	return answer{Kind: kind.String(), JSON: asJSON.Bytes(), Protobuf: asProtobuf.Bytes()}, nil
}

func run() error {
	decoder, err := newDecoder()
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineBytesMax)
	written := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return fmt.Errorf("no question: %w", err)
		}
		answered, err := decoder.answer(asked)
		if err != nil {
			answered = answer{Error: err.Error()}
		}
		if err := written.Encode(answered); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "metrics-decoder:", err)
		os.Exit(1)
	}
}
