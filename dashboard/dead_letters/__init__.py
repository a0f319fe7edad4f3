"""Dead letters grouped by error: fingerprints, groups of jobs, and the annotations people add."""
