"""Actions on jobs, queues and schedules of BullMQ and Bull."""
