"""How much an event costs, against others that promise less: `make bench`."""
