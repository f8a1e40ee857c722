"""Contenders of benchmarks/serve.py, the world they share, and the callers that load them."""
