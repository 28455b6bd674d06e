"""Handlers: the built-in ones and a user's own.

The registry finds the handler of an event type; its `Run` is what the handler may do.
"""
