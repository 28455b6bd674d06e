"""The Parameter Store of AWS Systems Manager."""
