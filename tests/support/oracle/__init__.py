"""Plain decisions written from the specification alone, to hold against what the database does."""
