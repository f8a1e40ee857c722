"""The parts of benchmarks/quality.py: real tables, contenders, remembered results, ranks."""
