"""The HTTP client for notifications, with deadlines and checked addresses."""
