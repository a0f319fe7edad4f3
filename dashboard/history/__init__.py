"""Weeks of figures: recorded by the leader, stored compactly in Queuedeck's own keys, read by charts and alerts."""
