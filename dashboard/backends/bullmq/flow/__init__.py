"""What finished in BullMQ's queues since the last sample."""
