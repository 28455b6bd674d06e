"""A user's module that fails while it is imported."""

prices: dict[str, int] = {}
premium = prices["PREMIUM"]
