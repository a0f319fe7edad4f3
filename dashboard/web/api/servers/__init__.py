"""Redis servers in the JSON API."""
