"""Dead letters grouped by error: fingerprints, groups of jobs, and the annotations that users add."""
