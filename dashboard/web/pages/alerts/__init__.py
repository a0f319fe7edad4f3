"""The pages of alerts: what is firing, silences, rules."""
