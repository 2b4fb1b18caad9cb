module eventengine.dev/benchmarks/instruments

go 1.26.0
