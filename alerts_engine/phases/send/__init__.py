"""Phase C, all of it: what is due is claimed, prepared, sent and settled (SPEC section 8)."""
