"""Log lines of programs, in one shape: as text for people or as JSON Lines."""
