"""EventEngine: a low-latency event engine with a Rust core."""
