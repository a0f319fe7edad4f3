"""What pages show of one queue."""
