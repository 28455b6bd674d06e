"""JSON: strict parsing and serialization, conversion to and from models, JSON Schema."""
