"""AWS Step Functions as a builder: starts, describes and stops executions; reads status changes."""
