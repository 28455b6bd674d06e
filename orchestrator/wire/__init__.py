"""JSON: read and written strictly, to models and back, and described by its schema."""
