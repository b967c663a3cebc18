"""The two pictures of README: the demonstration's, and a screenshot of the explorer.

    python -m tools.pages.readme_pictures        writes docs/made/demo.png and docs/made/explorer.png

The second needs the package playwright and a Chromium on the path (Debian: apt-get install chromium
fonts-dejavu-core). Both show the embedded model as it is now: run it again when that changes. Read next:
`minivl/show/demo.py`, `minivl/show/explorer/`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from operator import methodcaller
from pathlib import Path
from typing import Any

import minivl
from minivl.door.files import write_whole
from minivl.show import demo, explorer
from minivl.show.explorer.attention import all_attention
from minivl.show.samples import load_samples
from tools.pages import described

FOLDER = Path(__file__).parent.parent.parent / "docs" / "made"
SHOWN = "left-right"                    # two things, and a question about both
VIEW = {"width": 1090, "height": 830}    # no wider, or letters were too small on the site
SHARP = 2                               # pixels of the picture for each of the page
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Write both, and say where; ends with a message where there is no browser."""
    described.install()
    for name, made in (("demo", demo_picture), ("explorer", explorer_picture)):
        data = made()
        write_whole(FOLDER / f"{name}.png", methodcaller("write", data))
        print(FOLDER / f"{name}.png", len(data))


def demo_picture() -> bytes:
    """What `minivl demo` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.png"
        demo.main(path)
        return path.read_bytes()


def explorer_picture() -> bytes:
    """The explorer's page, held at the last token of the prompt: what the model looks at to answer."""
    with minivl.load() as vlm, tempfile.TemporaryDirectory() as folder:
        (sample,) = [one for one in load_samples() if one.name == SHOWN]
        run = explorer.follow(vlm, sample.messages(), name=SHOWN)
        page = Path(folder) / "run.html"
        explorer.save(page, run)
        row = len(run.inputs.input_ids) - 1               # of the token that the answer follows
        return screenshot(page, row, looking_layer(run, row))


def looking_layer(run: Any, row: int) -> int:
    """The decoder layer in which this row gives one place of the picture the most attention."""
    visual = (run.at["s"] >= 0).all(axis=(1, 2))[: row + 1]
    start, most = row * (row + 1) // 2, []                    # causal: row n has n + 1 weights
    for one in all_attention(run, 10**9):
        if one.room == "decoder":
            weights = one.weights.reshape(one.heads, -1)[:, start : start + row + 1].astype(float)
            most.append(float(weights.mean(axis=0)[visual].max()))
    return most.index(max(most))


def screenshot(page: Path, row: int, layer: int) -> bytes:
    """The page in a headless Chromium, with a token and a layer chosen as a reader would."""
    from playwright.sync_api import sync_playwright
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit("there is no Chromium: install it (Debian: apt-get install chromium fonts-dejavu-core)")
    alone = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []     # its sandbox needs a user
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=alone)
        shown = browser.new_page(viewport=VIEW, color_scheme="light", device_scale_factor=SHARP)
        shown.goto(page.as_uri())
        shown.wait_for_selector("body[data-drawn]")
        shown.click(f".chip[data-row='{row}']")
        shown.select_option("#place", f"decoder {layer}")
        shown.evaluate("window.scrollTo(0, 0)")
        shown.wait_for_timeout(500)
        taken = shown.screenshot()
        browser.close()
    return taken


if __name__ == "__main__":
    main()
