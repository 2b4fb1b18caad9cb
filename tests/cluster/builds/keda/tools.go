//go:build tools

// Package tools pins the KEDA programs that ask the adapter's external scaler in the cluster tests: the operator,
// and the metrics API server that its HorizontalPodAutoscalers read from.
package tools

import (
	_ "github.com/kedacore/keda/v2/cmd/adapter"
	_ "github.com/kedacore/keda/v2/cmd/operator"
)
