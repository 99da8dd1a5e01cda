"""What the command line is made of: the frame of every command, its options and tables, and the larger commands."""
