"""Current problems: what alerts report and what the figures of a sample show, on one scale. Pure."""
