"""What commands show to people: one module per command, and how a table is drawn."""
