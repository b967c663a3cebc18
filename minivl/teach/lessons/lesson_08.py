"""The exercise of lesson 8 that is no stage: from a pixel to its visual token."""

from __future__ import annotations

from collections.abc import Iterator

from .filing import Trial, integer, trials


@trials("8.2", "one integer", integer)
def token_of_pixel() -> Iterator[Trial]:
    photo, seen = (480, 640), (476, 644)                       # 17 x 23 cells
    for y, x, wanted in ((0, 0, 0), (0, 639, 22), (27, 0, 0), (29, 0, 23), (479, 639, 390), (240, 320, 195)):
        where = f"a photo of 480 x 640 seen as 476 x 644, pixel (row {y}, column {x})"
        h, w = y * seen[0] / photo[0], x * seen[1] / photo[1]
        yield Trial((y, x, photo, seen), wanted, f"{where}: token {{wanted}}, you say {{got}}", {
            f"{where}: that counts patches of 14 pixels; a token covers 28 x 28": int(h // 14) * 46 + int(w // 14),
            f"{where}: tokens are numbered along the rows: cell row times cells in a row, plus cell column":
                int(h // 28) + int(w // 28) * 17,
            f"{where}: a row has 644 / 28 = 23 cells, not 17": int(h // 28) * 17 + int(w // 28)})
    yield Trial((700, 100, (1400, 700), (700, 336)), 12 * 12 + 1,        # 25 x 12 cells; (350, 48) is in cell (12, 1)
                "a photo of 1400 x 700 seen as 700 x 336, pixel (row 700, column 100): token {wanted}, you say {got}; "
                "height and width have a factor each",
                {"yours does not go to the picture that the model sees: scale y and x first": 25 * 12 + 3})
