"""Jenkins as a builder: client, listings, and their interpretation as jobs."""
