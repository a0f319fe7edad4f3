"""Forecasts from measured figures: when a queue is empty, how many workers that takes, when a Redis is full."""
