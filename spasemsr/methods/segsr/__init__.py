"""SegSR: two diffusions, of the image and of its region labels, that inform each other at every step."""
