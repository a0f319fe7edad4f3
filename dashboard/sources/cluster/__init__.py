"""A Redis Cluster as one source: which node has which keys, and one reply from those of several nodes."""
