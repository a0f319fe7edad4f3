"""What the stored history says about each job class: totals, and how they changed. Used by pages and the API."""
