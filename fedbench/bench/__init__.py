"""The timing benchmarks: run under pytest-benchmark, compared with what the machine can do, recorded."""
