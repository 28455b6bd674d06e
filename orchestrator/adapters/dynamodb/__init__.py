"""Amazon DynamoDB: the ledger's table, and tiers."""
