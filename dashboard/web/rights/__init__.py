"""Which right each route requires, and what the user of a request may do."""
