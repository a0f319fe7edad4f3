"""From an alert's change of state to a delivered notification."""
