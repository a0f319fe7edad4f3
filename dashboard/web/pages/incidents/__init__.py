"""Incident reports: the page that prepares one, and the file."""
