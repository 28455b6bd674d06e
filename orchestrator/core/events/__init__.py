"""An event: how it is read, what it is called, what it says.

JSON in whatever envelope becomes an `Event`; its body's facts are read in all their spellings.
Nothing in here knows the ledger, a tenant's state or a builder.
"""
