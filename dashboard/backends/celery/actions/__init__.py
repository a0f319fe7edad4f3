"""Actions on Celery's tasks, queues, schedules and workers."""
