"""Request input: forms, job selections and queries, checked field by field."""
