"""Queuedeck: one dashboard for every background-job queue in Redis."""

__version__ = "0.1.0"
