"""Amazon EventBridge: the bus of the control plane."""
