"""Secrets: recognized by name, masked, and stored for as long as a start needs them.

`redaction` masks them in logs and answers; `references` replaces them in the variables of a job.
Stores and the service's own credentials are ports.
"""
