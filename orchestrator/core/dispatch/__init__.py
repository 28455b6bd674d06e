"""The path of an event: correlated, claimed, handled, settled; the sweep resumes due items.

`orchestrator` is the flow from top to bottom; everything else in here is a step of it.
"""
