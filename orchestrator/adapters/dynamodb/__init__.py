"""Amazon DynamoDB: the ledger's table, and the tier catalog."""
