"""Fit a model version from a pinned snapshot."""
