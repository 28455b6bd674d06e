"""An event's way: correlated, claimed, handed to its handler, settled; what is due is resumed.

`orchestrator` is the flow from top to bottom; everything else in here is a step of it.
"""
