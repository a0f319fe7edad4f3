"""Marks: deployments and other changes that charts and error groups show."""
