"""Actions on jobs, queues, schedules and workers: at once or in bulk, with an undo and an audit log."""
