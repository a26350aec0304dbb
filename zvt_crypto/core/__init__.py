"""Pure values and rules: no I/O, and nothing else of this package is imported here."""
