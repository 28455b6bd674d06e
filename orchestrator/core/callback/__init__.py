"""The report to the control plane: how an operation ended.

A report is stored with its operation, signed, sent to the webhook, and retried until it is
accepted or given up with a reason.
"""
