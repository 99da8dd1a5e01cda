"""The readers' own page: what they get, and how to stop it (SPEC section 18)."""
