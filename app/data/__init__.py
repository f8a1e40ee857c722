"""From a source to accepted rows, tables, labels as known at a time, and pinned snapshots."""
