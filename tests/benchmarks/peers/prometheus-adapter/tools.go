//go:build tools

// Package tools names the program that the benchmarks build.
package tools

import _ "sigs.k8s.io/prometheus-adapter/cmd/adapter"
