"""Alerting: rules are evaluated against every sample, and notifications go through an outbox to the channels."""
