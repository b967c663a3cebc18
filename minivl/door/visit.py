"""What a watcher sees: one run of a leaf stage. A watcher is any function `look(visit)`.

    seen = []
    with minivl.session() as s:
        s.watchers.append(lambda visit: seen.append(visit.key))
        vlm.ask(image, "What is this?")

Read next: `watch.py`, the watchers that a session's options make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Visit:
    """One run of a leaf.

    key, label: under which it ran (`decoder@1.layers.0.attend`, `decoder.layers.0.attend`)
    door: the stage; `.contract` has the shapes, `.definition` the function
    args, raw: what went in and came out, as the machine has it that ran the stage
    output: the same as `raw` on the host; nothing writes to it any more, so a watcher may keep it
    seconds, flops: what it cost; a multiply-add is two operations
    """
    key: str
    label: str
    door: Any
    args: tuple[Any, ...]
    raw: Any
    output: Any
    seconds: float
    flops: int


Watcher = Callable[[Visit], None]
