"""Figures for slides: every picture that a teacher of the course would put on one, as SVG.

    python -m tools.pages.figures DIR                   writes all of them and figures.md, the list with thumbnails
    python -m tools.pages.figures DIR windows rms-norm  writes only these

Text in them is text: it can be searched, translated and set in another font. They are drawn by the functions of
`minivl/show/plot/` from runs of the embedded model, or from toy arrays of the lessons; the same model and
the same Matplotlib give the same bytes. What they show of the model's numbers is of the embedded model as it is now.

One file a part of the course: `pixels.py` (lessons 0 to 3), `tower.py` (4 to 8), `text.py` (9 to 12, and 14),
`numbers.py` (13 and 15). A figure is a function under `@figure`. Read next: `sheet.py`, which files and writes them.
"""
