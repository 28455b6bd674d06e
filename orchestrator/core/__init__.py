"""The orchestrator itself, in plain Python and attrs: no web, no AWS, no JSON library."""
