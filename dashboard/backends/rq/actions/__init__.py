"""Actions on RQ jobs, queues and workers."""
