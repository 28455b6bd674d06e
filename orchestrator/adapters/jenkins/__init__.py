"""Jenkins as a builder: how it is talked to, what it lists, what that means."""
