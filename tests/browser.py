"""A headless Chromium for tests, or a skip that says why there is none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, as Playwright drives it. Skips the test where Playwright or Chromium is not installed."""
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium fonts-dejavu-core)")
    with api.sync_playwright() as playwright:
        root = getattr(os, "geteuid", lambda: 1)() == 0
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if root else [])
        yield started
        started.close()
