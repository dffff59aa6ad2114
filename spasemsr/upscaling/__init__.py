"""Any photograph through the whole inference chain: what the `upscale` command, the page and Python callers share."""
