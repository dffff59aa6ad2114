"""Foreign models behind the protocols of `protocols.py`; one file per protocol."""
