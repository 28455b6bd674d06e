"""In this process's memory: the twins of the real ends, for tests and for a look around."""
