//go:build tools

// Package tools pins the program that plays nodes and kubelets where real ones would be too many or too healthy.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
