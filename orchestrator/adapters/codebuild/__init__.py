"""AWS CodeBuild as a builder: starts, finds by start key, describes and stops builds; reads state
changes."""
