"""The pure parts of phase C: no I/O, and time and randomness come in as arguments."""
