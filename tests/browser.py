"""A headless Chromium for tests, or a skip that says why there is none; and texts with too little contrast."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


class Opened:
    """A page in the browser that must neither complain nor ask for anything."""

    def __init__(self, browser, path: Path, size=(1280, 900), **options):
        self.tab = browser.new_page(viewport={"width": size[0], "height": size[1]}, **options)
        self.complaints = []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: request.url.startswith(("data:", path.as_uri()))
                    or self.complaints.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector("body[data-ready]", timeout=60_000)

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        self.tab.close()
        assert kind or not self.complaints, self.complaints


ENOUGH = 4.5                                       # of WCAG 2.2, 1.4.3: text of ordinary size at level AA
FAINT = """enough => {
  const numbers = colour => { const n = colour.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const over = (top, low) => [0, 1, 2].map(i => top[i] * top[3] + low[i] * (1 - top[3])).concat(1);
  const linear = v => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const above = e => { const all = []; for (; e; e = e.parentElement) all.push(e); return all; };
  const ground = e => above(e).map(one => numbers(getComputedStyle(one).backgroundColor)).reverse()
    .reduce((low, top) => over(top, low), [255, 255, 255, 1]);
  const found = {};
  const look = (e, style, part) => {
    const low = ground(e), ink = numbers(style.color);
    ink[3] *= above(e).reduce((all, one) => all * getComputedStyle(one).opacity, part ? style.opacity : 1);
    const [a, b] = [light(over(ink, low)), light(low)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < enough) found[`${e.tagName}.${e.className}${part}`] = [ratio, e.textContent.slice(0, 40)];
  };
  let looked = 0;
  for (const e of document.body.querySelectorAll("*")) {
    if (!e.checkVisibility() || e.closest("script, option, optgroup")) continue;
    if ([...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) { look(e, getComputedStyle(e), ""); looked++; }
    for (const part of ["::before", "::after"])
      if (!["none", "normal", '""'].includes(getComputedStyle(e, part).content))
        look(e, getComputedStyle(e, part), part);
  }
  return [looked, found];
}"""


def faint_texts(tab: Any) -> dict[str, list]:
    """Texts of a page that stand out from their ground by less than 4.5 to 1, by their element; computed from the
    styles as the browser resolved them, half-transparent colours laid over each other."""
    tab.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
    looked, found = tab.evaluate(FAINT, ENOUGH)
    assert looked > 10, "the page has hardly any text: it was not drawn yet"
    return found
