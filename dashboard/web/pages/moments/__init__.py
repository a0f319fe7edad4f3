"""The moment that a request asks for, and the links that keep it."""
