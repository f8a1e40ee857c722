"""Show people what the loop does and what it was worth."""
