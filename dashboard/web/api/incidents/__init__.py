"""Incident reports in the JSON API."""
