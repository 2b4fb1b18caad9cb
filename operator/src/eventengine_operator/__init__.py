"""The operator: turns EventEngine objects into workloads, and keeps them so."""
