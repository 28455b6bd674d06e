"""The ledger's items, and every decision about them.

A decision is a plain function of a snapshot, guarded by the conditions of `guards`; `transactions`
runs it on the port `ledger`. Every later release can read what an earlier one wrote.
"""
