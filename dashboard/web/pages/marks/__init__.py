"""Adding and deleting marks."""
