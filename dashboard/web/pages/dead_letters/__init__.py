"""The pages of dead letters: error groups and their jobs."""
