"""Who asks and what they may do: sign-in, sessions, rights, trusted proxies, security headers."""
