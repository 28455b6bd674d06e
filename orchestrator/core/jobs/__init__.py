"""Jobs: planned, started once, watched to their end, stopped.

A builder is a port with abilities; what it answers counts, whoever says that a job is over.
Nothing in here names one.
"""
