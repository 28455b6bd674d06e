"""The ports' ways to the world; the only place that knows aioboto3 and botocore."""
