"""The training benchmark's parts: rows, contenders that do the same work, rounds on Ray workers."""
