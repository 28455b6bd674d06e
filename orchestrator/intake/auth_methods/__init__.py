"""The authentication methods, a module each."""
