"""Celery's result records: found, decoded and indexed."""
