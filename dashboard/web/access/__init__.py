"""Authentication and authorization: sign-in, sessions, roles, trusted proxies, security headers."""
