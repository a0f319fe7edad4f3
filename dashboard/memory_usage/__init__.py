"""The memory that queues take, estimated from samples of their jobs."""
