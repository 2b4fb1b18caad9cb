"""The metrics adapter: serves what engines measure to the Kubernetes metrics APIs."""
