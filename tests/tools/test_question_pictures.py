"""The pictures of docs/guide/questions.md: each is there, is shown, and can be drawn anew from the embedded model."""

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tools.pages.question_pictures import FOLDER, PICTURES

PAGE = (Path(__file__).parent.parent.parent / "docs" / "guide" / "questions.md").read_text(encoding="utf-8")


def test_the_page_shows_every_picture_and_no_other():
    shown = re.findall(r"\(\.\./made/pictures/([a-z-]+)\.png\)", PAGE)
    assert sorted(shown) == sorted(PICTURES) == sorted(path.stem for path in FOLDER.glob("*.png"))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_can_be_drawn(name):
    figure = PICTURES[name]()
    assert isinstance(figure, Figure) and any(axes.has_data() for axes in figure.axes)
