"""Races by enumeration: each act at each step of a real worker, and a worker at each step of each act."""
