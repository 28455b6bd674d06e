"""The control plane is told how an operation ended.

A report is kept with its operation, signed, sent to the webhook, and sent again until it is
accepted or given up for a reason.
"""
