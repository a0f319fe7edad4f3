"""What people send: forms, job selections and queries, checked field by field."""
