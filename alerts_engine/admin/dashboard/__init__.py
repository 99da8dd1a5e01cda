"""The dashboard: one page whose parts are rendered here, and swapped in by htmx (SPEC P-4)."""
