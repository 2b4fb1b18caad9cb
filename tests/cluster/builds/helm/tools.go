//go:build tools

// Package tools pins the helm 4 command that the cluster tests install the chart with.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
