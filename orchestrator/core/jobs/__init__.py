"""Jobs: planned, started once, watched to their end, stopped.

A builder is a port with optional abilities. Its answer about a job counts, never a message's claim.
Nothing in here names a concrete builder.
"""
