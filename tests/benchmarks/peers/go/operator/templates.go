package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// What stands in the templates for what an EventEngine says of itself.
const (
	namePlace      = "engine-name-here"
	namespacePlace = "engine-namespace-here"
	identityPlace  = "engine-uid-here"
	yamlPlace      = "engine-yaml-here"
	hashPlace      = "engine-hash-here"
)

func readTemplates(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(text, &items); err != nil {
		return nil, err
	}
	children := make([]string, len(items))
	for number, item := range items {
		children[number] = string(item)
	}
	return children, nil
}

// render fills a template with what an EventEngine declares: its engine.yaml, its replicas, labels of its pods.
func render(template string, engine *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	section, _, err := unstructured.NestedMap(engine.Object, "spec", "engine")
	if err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(section)
	if err != nil {
		return nil, err
	}
	quoted, err := json.Marshal(string(text))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	filled := strings.NewReplacer(
		namePlace, engine.GetName(),
		namespacePlace, engine.GetNamespace(),
		identityPlace, string(engine.GetUID()),
		hashPlace, hex.EncodeToString(sum[:16]),
		`"`+yamlPlace+`"`, string(quoted),
	).Replace(template)
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON([]byte(filled)); err != nil {
		return nil, err
	}
	if object.GetKind() != "Deployment" {
		return object, nil
	}
	if replicas, found, _ := unstructured.NestedInt64(engine.Object, "spec", "replicas"); found {
		if err := unstructured.SetNestedField(object.Object, replicas, "spec", "replicas"); err != nil {
			return nil, err
		}
	}
	labels, _, _ := unstructured.NestedStringMap(engine.Object, "spec", "pod", "template", "labels")
	for key, value := range labels {
		if err := unstructured.SetNestedField(object.Object, value, "spec", "template", "metadata", "labels", key); err != nil {
			return nil, err
		}
	}
	return object, nil
}

func typedOf(object *unstructured.Unstructured) (client.Object, error) {
	empty, err := clientgoscheme.Scheme.New(object.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	typed := empty.(client.Object)
	return typed, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed)
}
