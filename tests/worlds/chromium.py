"""Chromium, where this machine has it, for what only a browser shows."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
OFFLINE = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
 --disable-component-update --disable-sync""".split()
WITHOUT_BROWSER = pytest.mark.skipif(
    BROWSER is None, reason="no browser on this machine; install one: apt-get install -y chromium"
)


@contextmanager
def browsing() -> Iterator[Any]:
    """An empty tab of Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=OFFLINE)
        context = browser.new_context(viewport={"width": 1280, "height": 1200}, accept_downloads=True)
        context.set_default_timeout(120_000)
        yield context.new_page()
        browser.close()
