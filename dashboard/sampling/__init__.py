"""Samples the watched Redis servers, derives rates, publishes the snapshot and reads it."""
