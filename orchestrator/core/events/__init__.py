"""Events: parsing, types, and the facts of their bodies.

JSON in any supported envelope becomes an `Event`; a body's facts are read in all their spellings.
Nothing in here knows the ledger, a tenant's state or a builder.
"""
