"""From the users' Redis to one published snapshot: sample, derive rates, keep an hour, lead, publish, read."""
