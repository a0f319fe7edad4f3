"""Messages of Celery in Redis: where a task's message is, waiting or unacknowledged."""
