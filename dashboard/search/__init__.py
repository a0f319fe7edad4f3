"""Search for jobs across queues and libraries."""
