"""The real components that integration tests and the demo run on."""
