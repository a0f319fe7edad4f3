"""The monitored Redis servers: connections with timeouts, and explanations of their errors."""
