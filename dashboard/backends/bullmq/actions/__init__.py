"""Actions on BullMQ's and Bull's jobs, queues and schedules."""
