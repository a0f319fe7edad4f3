"""What is known about an incident: all records of a range of time, for a report."""
