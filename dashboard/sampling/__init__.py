"""From the watched Redis servers to one published snapshot: sample, derive rates, publish, read."""
