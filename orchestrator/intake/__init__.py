"""From the outside to an event, and from what became of it to an answer. Knows no AWS SDK."""
