"""How notifications leave the process: one HTTP client with deadlines and checked addresses."""
