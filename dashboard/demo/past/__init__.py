"""The demo's past: sample data of a week, written into the history of its own Redis."""
