"""The command palette: what it finds, and how well that matches what was typed."""
