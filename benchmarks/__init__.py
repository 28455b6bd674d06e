"""How much an event costs, compared with services that guarantee less: `make bench`."""
