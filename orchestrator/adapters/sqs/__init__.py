"""Amazon SQS: the queue of events."""
