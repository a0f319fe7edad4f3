"""A private Redis and real workers with a realistic workload, for demonstration and tests."""
