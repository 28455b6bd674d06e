"""Entry points: turn HTTP requests, queue messages and Lambda invocations into events, and results
into responses. Imports no AWS SDK."""
