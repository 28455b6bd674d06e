"""AWS as the contestants see it: DynamoDB, CodeBuild and SQS in memory, fast enough not to
be the limit of a measurement; it counts its requests."""
