"""Queue mode: events are enqueued, and shown as `queued` until a worker handles them.

One codec writes and reads the messages.
"""
