"""Amazon EventBridge: publishes events on the control plane's bus."""
