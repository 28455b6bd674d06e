"""In-memory adapters, for tests and for trying the service."""
