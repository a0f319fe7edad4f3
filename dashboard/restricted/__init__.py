"""The services of a process as someone sees them who may see only some queues."""
