"""`fetchq top`: a live view of a queue in the terminal."""
