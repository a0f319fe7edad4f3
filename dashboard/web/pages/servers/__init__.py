"""The pages of Redis servers."""
