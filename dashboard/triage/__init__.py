"""Dead letters by what killed them: errors folded to fingerprints, groups of jobs, and what people say of them."""
