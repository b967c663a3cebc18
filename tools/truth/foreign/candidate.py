"""A variant of the port as a candidate that runs: what `minivl shadow`, `bisect` and `reduce` are given.

    candidate = AsCandidate(variant("order-by-sorting"), "MODEL_DIR")
    candidate.run(inputs, {"vision.merge_2x2": array})["logits"]

It can be entered at every tap that is one array. Read next: `port.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .port import Port, label_of
from .variants import Variant

CUTS = ("tower.stem", "tower.sorted", "tower.*.mid", "tower.*.out", "bridge.cells", "bridge.out", "lm.words", "lm.in",
        "lm.*.mid", "lm.*.out", "lm.norm")


class AsCandidate:
    """See the module's text; `runnable.py` of the package says what a candidate is."""

    def __init__(self, variant: Variant, folder):
        self.port: Port = variant.port(folder)
        self.precision = variant.precision
        self.names = {label_of(name): name for name in self._taps()}

    def _taps(self) -> list[str]:
        depth, layers = self.port.v["depth"], self.port.c["num_hidden_layers"]
        return [name.replace("*", str(n)) for name in CUTS
                for n in (range(depth if name.startswith("tower") else layers) if "*" in name else [0])]

    def cuts(self) -> list[str]:
        return list(self.names)

    def run(self, inputs: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        instead = {self.names[label]: value for label, value in given.items()}
        tapped = self.port.run(inputs, instead)
        own = {label: tapped[name] for label, name in self.names.items() if name in tapped}
        return {"logits": self.port.given.get("lm.scores", tapped["lm.scores"]), **own}
