"""Other programs for the same task, each a script of its own."""
