"""Secrets: known by their names, masked, and kept in a store for as long as a start needs them.

`redaction` leaves them out of what is shown; `references` replaces them in what a job is given.
Stores and the service's own credentials are ports.
"""
