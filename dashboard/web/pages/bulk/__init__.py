"""Pages of bulk operations."""
