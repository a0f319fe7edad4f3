"""Actions on Sidekiq's jobs, queues, schedules and workers."""
