"""Pages as of a moment in the past: the moment that a URL asks for, and its bar."""
