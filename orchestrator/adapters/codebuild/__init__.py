"""AWS CodeBuild: builds are started, found by their start key, described, stopped, and told of."""
