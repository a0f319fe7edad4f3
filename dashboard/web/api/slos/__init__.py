"""SLOs in the JSON API."""
