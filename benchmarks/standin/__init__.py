"""AWS as the contestants see it: DynamoDB, CodeBuild and SQS in memory, fast enough not to be what
is measured; it counts what it is asked."""
