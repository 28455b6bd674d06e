"""Queue mode: an event is put into a queue, and shown as queued until a worker handles it.

What travels there is written and read by one codec.
"""
