"""How Redis servers are named in the settings."""
