"""Who takes part in the scoring benchmark, and what they score."""
