"""Turns rules and one sample into alert states: pure functions and values without Redis or a clock."""
