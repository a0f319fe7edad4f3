"""What a rule is, the rules that ship, the rules in force, and the metrics they compare."""
