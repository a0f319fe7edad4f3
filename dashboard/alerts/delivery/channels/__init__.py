"""Notification channels: one module per kind, all behind `base.Channel`."""
