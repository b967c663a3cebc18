"""Pages of the embedded model's world: invoices and forms, mock screens, small tables, bar charts.

Each function draws one page from a seed and gives the clip with the truth that questions need.

Read next: `tasks.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .world import (
    COLOUR_NAMES,
    FACES,
    FACTOR,
    Box,
    Clip,
    Rng,
    Thing,
    amount,
    date,
    font,
    number,
    paint,
    to_bytes,
    tone,
    word,
    write,
)

NAMES = {"number": ("No.", "Number", "Invoice no.", "Ref."), "date": ("Date", "Issued", "Day"),
         "amount": ("Total", "Amount", "To pay", "Sum")}
CONTROLS = ("Save", "Open", "Close", "Cancel", "Send", "Back", "Next", "Help", "Print", "Copy", "Login", "Search",
            "Delete", "Edit", "Add", "Play", "Stop", "Home", "Menu", "Share", "Reset", "Apply", "Yes", "No")


class Page:
    """A sheet being drawn on: pixels, who owns them, what is written."""

    def __init__(self, size: tuple[int, int], paper: np.ndarray):
        self.image = np.broadcast_to(paper.astype(np.float32), (*size, 3)).copy()
        self.owner, self.glyphs = np.full(size, -1, np.int8), np.zeros((3, *size), np.uint8)
        self.things: list[Thing] = []

    def rectangle(self, kind: str, label: str, box: Box, rgb: np.ndarray, colour: str = "") -> None:
        mask = np.full((box[3] - box[1], box[2] - box[0]), 255, np.uint8)
        paint(self.image, self.owner, len(self.things), box, mask, rgb)
        self.things.append(Thing(kind, label, box, colour))

    def frame(self, box: Box, rgb: np.ndarray) -> None:
        """The one-pixel outline of a box: nobody's pixels."""
        x0, y0, x1, y1 = box
        for rows, columns in ((slice(y0, y0 + 1), slice(x0, x1)), (slice(y1 - 1, y1), slice(x0, x1)),
                              (slice(y0, y1), slice(x0, x0 + 1)), (slice(y0, y1), slice(x1 - 1, x1))):
            self.image[rows, columns] = rgb

    def text(self, text: str, face, corner: tuple[int, int], rgb: np.ndarray) -> Box:
        owner = self.owner[corner[1] + 1, corner[0] + 1]             # on a control, the writing is the control's
        index = len(self.things) if owner < 0 else int(owner)
        box = write(self.image, self.owner, self.glyphs, index, text, face, corner, rgb)
        if owner < 0:
            self.things.append(Thing("text", text, box))
        return box

    def clip(self) -> Clip:
        return Clip(to_bytes(self.image)[None], tuple(self.things), self.owner[None], self.glyphs)


class Drawn(NamedTuple):
    """A page and its truth: values by name, rows of a table, or bars."""
    clip: Clip
    truth: dict


def _paper(rng: Rng) -> np.ndarray:
    return rng.uniform(215, 255) + rng.uniform(-6, 6, 3)


def _dark(rng: Rng) -> np.ndarray:
    return rng.uniform(0, 70) + rng.uniform(-15, 40, 3)


def _sheet(rng: Rng, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int]:
    h, w = int(rng.integers(rows[0], rows[1] + 1)), int(rng.integers(columns[0], columns[1] + 1))
    ragged = rng.integers(-12, 13, 2) if rng.random() < 0.4 else (0, 0)
    return h * FACTOR + int(ragged[0]), w * FACTOR + int(ragged[1])


def invoice(rng: Rng) -> Drawn:
    """Number, date and amount, each behind a name, in any order."""
    face_name = FACES[rng.integers(len(FACES))]
    face = font(face_name, int(rng.integers(13, 18)))
    truth = {"number": number(rng, int(rng.integers(3, 6))), "date": date(rng), "amount": amount(rng)}
    order = [str(name) for name in rng.permutation(list(truth))]
    lines = [(str(rng.choice(NAMES[name])), truth[name]) for name in order]
    names, values = (int(max(face.getlength(line[side]) for line in lines)) + 1 for side in (0, 1))
    size = _sheet(rng, (4, 6), (4, 7))
    size = size[0], max(size[1], names + values + 24)
    page, rgb = Page(size, _paper(rng)), _dark(rng)
    y, x = int(rng.integers(4, 14)), int(rng.integers(4, 12))
    title = str(rng.choice(("Invoice", "Form", "Bill", "Receipt", word(rng, 4, 7))))
    page.text(title, font(face_name, 18), (x, y), rgb)
    space = (size[0] - y - 30) // len(lines)
    column = int(rng.integers(x + names + 5, size[1] - values - 1))
    for i, (left, right) in enumerate(lines):
        line = y + 26 + i * min(space, 34)
        if line + 18 > size[0]:
            return invoice(rng)
        page.text(left, face, (x, line), rgb)
        page.text(right, face, (column, line), rgb)
    return Drawn(page.clip(), truth)


def figures(rng: Rng) -> Clip:
    """A sheet full of numbers, dates and amounts in small print, each line in a face of its own: a form or a table is
    misread by one digit, and most of what stands in a form are names and words."""
    size = _sheet(rng, (3, 6), (3, 6))
    page, y = Page(size, _paper(rng)), int(rng.integers(2, 10))
    while y + 18 < size[0]:
        face, rgb = font(FACES[rng.integers(len(FACES))], int(rng.integers(12, 18))), _dark(rng)
        x = int(rng.integers(2, 14))
        while True:
            text = (number(rng, int(rng.integers(1, 6))), date(rng), amount(rng))[rng.integers(3)]
            if x + face.getlength(text) + 4 > size[1] or len(page.things) > 100:
                break
            page.text(text, face, (x, y), rgb)
            x += int(face.getlength(text)) + int(rng.integers(6, 20))
        y += int(rng.integers(15, 26))
    return page.clip() if page.things else figures(rng)


def screen(rng: Rng) -> Drawn:
    """A window with a title, one to five controls. truth: label -> box of each control."""
    size = _sheet(rng, (4, 7), (4, 8))
    page = Page(size, rng.uniform(120, 250) + rng.uniform(-25, 25, 3))
    face_name, light = FACES[rng.integers(len(FACES))], rng.random() < 0.5
    bar = int(rng.integers(16, 22))
    page.rectangle("panel", "title", (0, 0, size[1], bar), _dark(rng) if light else rng.uniform(60, 180, 3))
    page.text(word(rng, 3, 6), font(face_name, 13), (5, 4), np.array([250.0, 250.0, 250.0]))
    controls: dict[str, Box] = {}
    for label in rng.permutation(CONTROLS)[: int(rng.integers(2, 6))]:
        _control(rng, page, str(label), face_name, bar, controls)
    if not controls:
        return screen(rng)
    return Drawn(page.clip(), controls)


def _control(rng: Rng, page: Page, label: str, face_name: str, top: int, controls: dict[str, Box]) -> None:
    """One button where there is room, or none."""
    face = font(face_name, int(rng.integers(12, 17)))
    left, up, right, down = (int(v) for v in face.getbbox(label))
    pad_x, pad_y = int(rng.integers(5, 14)), int(rng.integers(4, 9))
    w, h = right - left + 2 * pad_x, down - up + 2 * pad_y
    height, width = page.owner.shape
    if w > width - 8 or h > height - top - 8:
        return
    for _ in range(12):
        x, y = int(rng.integers(3, width - w - 2)), int(rng.integers(top + 3, height - h - 2))
        box = (x, y, x + w, y + h)
        if all(x + w + 3 < b[0] or b[2] + 3 < x or y + h + 3 < b[1] or b[3] + 3 < y for b in controls.values()):
            break
    else:
        return
    face_rgb = rng.uniform(30, 240, 3)
    page.rectangle("button", label, box, face_rgb)
    page.frame(box, np.clip(face_rgb - 60, 0, 255))
    rgb = np.full(3, 245.0) if face_rgb.mean() < 130 else np.full(3, 15.0)
    page.text(label, face, (x + pad_x, y + pad_y), rgb)
    controls[label] = box


def table(rng: Rng) -> Drawn:
    """A grid of numbers and short words. truth["rows"]: the cells, row by row."""
    rows, columns = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    cells = [[number(rng, int(rng.integers(1, 4))) if rng.random() < 0.7 else word(rng, 2, 4) for _ in range(columns)]
             for _ in range(rows)]
    face = font(FACES[rng.integers(len(FACES))], int(rng.integers(13, 19)))
    w = int(max(face.getlength(cell) for row in cells for cell in row)) + int(rng.integers(8, 20))
    h = int(rng.integers(22, 32))
    size = _sheet(rng, (3, 5), (4, 7))
    size = max(size[0], rows * h + 12), max(size[1], columns * w + 12)
    page, rgb = Page(size, _paper(rng)), _dark(rng)
    x0, y0 = int(rng.integers(3, size[1] - columns * w - 3)), int(rng.integers(3, size[0] - rows * h - 3))
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            x, y = x0 + j * w, y0 + i * h
            page.frame((x, y, x + w + 1, y + h + 1), rgb)
            page.text(cell, face, (x + int(w - face.getlength(cell)) // 2, y + 6), rgb)
    return Drawn(page.clip(), {"rows": cells})


def chart(rng: Rng) -> Drawn:
    """Bars of different colours over a scale with a line at every whole number. truth: colour -> value 1 to 9."""
    count, unit = int(rng.integers(2, 6)), int(rng.integers(9, 17))
    bar, gap = int(rng.integers(13, 23)), int(rng.integers(5, 12))
    size = _sheet(rng, (4, 6), (3, 7))
    size = max(size[0], 9 * unit + 22), max(size[1], 24 + count * (bar + gap))
    page, rgb = Page(size, _paper(rng)), _dark(rng)
    floor, face = size[0] - int(rng.integers(6, 12)), font(FACES[rng.integers(len(FACES))], 12)
    for value in range(10):
        page.image[floor - value * unit, 16:size[1] - 4] = 0.75 * page.image[0, 0] + 0.25 * rgb
    page.text("5", face, (4, floor - 5 * unit - 5), rgb)
    values = {}
    for i, colour in enumerate(rng.permutation(COLOUR_NAMES)[:count]):
        value, x = int(rng.integers(1, 10)), 22 + i * (bar + gap)
        page.rectangle("bar", f"{colour} bar", (x, floor - value * unit, x + bar, floor + 1), tone(rng, colour), colour)
        values[str(colour)] = value
    return Drawn(page.clip(), values)
