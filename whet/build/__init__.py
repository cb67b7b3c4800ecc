"""Configurations → objects: the only place where a name becomes a function. Importing this imports no torch."""
