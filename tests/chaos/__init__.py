"""Fault injection: the engine is killed, cut off and lied to, and every message is counted afterwards.

``python -m tests.chaos`` runs it at full size and prints a table; pytest runs the same scenarios small.
"""
