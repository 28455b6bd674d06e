"""Queue mode: an event is put into a queue, and shown as queued until a worker handles it.

Its messages are written and read by one codec.
"""
