"""Loaded networks that several roles share, and how they run on a device."""
