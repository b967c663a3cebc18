"""A run as one page: point at a pixel, a patch, a window, a token or a stage, and all of it lights up.

    from minivl.show import explorer
    run = explorer.follow(vlm, messages)                    # answers, and keeps what every stage gave
    explorer.show(run)                                      # in a notebook
    explorer.save("run.html", run)                          # one file, no request to anywhere
    explorer.save("two.html", run, other)                   # two runs side by side
    explorer.from_trace(minivl.read_dump("dump"), vlm)      # a run that was recorded elsewhere

The page shows the numbers of the trace. Maps are drawn from float16 attention weights; where weights are
averaged or pooled to keep the file small, the page says so. No geometry is computed in the browser:
rows, places and segments are tables from `run/provenance.py` and the recorded `vision.schedule`.

Not here: figures for a document (`plot`). Read next: `run.py` (a trace as one conversation),
`attention.py`, `stages.py`, `lens.py` and `document.py` (what is shown of it), `page.py` (the file).
"""

from .page import Shown, html, save, show
from .run import Run, follow, from_trace

__all__ = ["Run", "Shown", "follow", "from_trace", "html", "save", "show"]
