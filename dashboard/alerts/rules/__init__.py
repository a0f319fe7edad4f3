"""Rules: their fields, the default rules, the rules in force, and the metrics they compare."""
