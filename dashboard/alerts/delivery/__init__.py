"""Delivery: from an alert's change of state to a sent notification."""
