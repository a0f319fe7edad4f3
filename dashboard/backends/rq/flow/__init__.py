"""What finished in RQ's queues since the last sample: counts, run times, and the counters of the workers."""
