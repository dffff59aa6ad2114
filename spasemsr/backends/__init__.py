"""Foreign models behind the protocols of `protocols.py`, a folder for each role; what roles share is in `networks`."""
