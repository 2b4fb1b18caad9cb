//go:build tools

// Package tools pins the helm 3 command: the chart has to install with it as well as with helm 4.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
