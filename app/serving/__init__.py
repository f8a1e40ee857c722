"""Serving: rows in, probabilities out, every one of them in the log before the answer."""
