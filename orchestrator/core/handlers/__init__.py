"""Handlers: the built-in ones and a user's own.

The registry finds the handler of an event type; the handler acts through its `Run`.
"""
