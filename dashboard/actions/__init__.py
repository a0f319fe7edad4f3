"""Actions on jobs, queues, schedules and workers: immediate or in bulk, with undo and an audit log."""
