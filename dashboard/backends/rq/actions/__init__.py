"""Actions on RQ's jobs, queues and workers."""
