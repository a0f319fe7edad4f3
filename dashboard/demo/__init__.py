"""A Redis and real workers with believable work, to look at and to test with."""
