"""Was it accepted? One module per provider that can be asked, and what they share (SPEC C-17)."""
