"""The watched Redis servers: connections with timeouts, and their errors in plain words."""
