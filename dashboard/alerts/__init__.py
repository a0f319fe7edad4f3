"""Alerts: rules decide, the outbox keeps, channels tell people."""
