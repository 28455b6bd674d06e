"""The pages of docs/ that are generated; `make docs` writes them, tests/meta compares them."""
