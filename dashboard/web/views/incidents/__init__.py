"""What an incident report shows."""
