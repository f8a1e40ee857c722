"""What benchmarks share: contenders in processes of their own, rounds, and what a round cost."""
