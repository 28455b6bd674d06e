"""What is kept, and every decision about it.

A decision is a plain function of a snapshot, guarded by the conditions of `guards`; `transactions`
carries it out on the port `ledger`. What was written once can be read by every later release.
"""
