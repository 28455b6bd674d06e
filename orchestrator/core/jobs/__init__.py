"""Jobs: planned, started once, watched to their end, stopped.

A builder is a port with abilities. Its answer about a job counts, whatever the source of a message.
Nothing in here names a concrete builder.
"""
