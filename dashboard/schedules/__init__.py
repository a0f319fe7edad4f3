"""Which schedules are late."""
