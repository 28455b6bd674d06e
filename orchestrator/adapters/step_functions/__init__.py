"""AWS Step Functions: executions are started, described, stopped, and told of."""
