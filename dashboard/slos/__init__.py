"""Service level objectives: how many jobs were good, how much of the error budget is left, how fast it is used."""
