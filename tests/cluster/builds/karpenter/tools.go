//go:build tools

// Package tools pins Karpenter with its provider of KWOK nodes: a real node autoscaler whose nodes
// are objects alone, and the CustomResourceDefinitions that it works with.
package tools

import (
	_ "sigs.k8s.io/karpenter/kwok"
)
