"""Run a variant of the port on a picture and a question, and leave its arrays behind as a toolchain would.

    python -m tools.truth.foreign.leave photo.png "Describe the image." --variant order-by-sorting --way mixed -o dump

Read next: `dumps.py`, which says what the ways are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import minivl

from .dumps import WAYS, Facts, dump
from .variants import VARIANTS, variant


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("picture")
    words.add_argument("question")
    words.add_argument("--variant", default="float32", choices=[one.name for one in VARIANTS])
    words.add_argument("--way", default="mixed", choices=list(WAYS))
    words.add_argument("--model", help="a folder; without it the embedded model")
    words.add_argument("-o", "--output", type=Path, default=Path("dump"))
    given = words.parse_args()
    vlm = minivl.load(given.model)
    inputs = vlm.prepare([{"role": "user", "content": [{"type": "image", "image": given.picture},
                                                       {"type": "text", "text": given.question}]}])
    tapped = variant(given.variant).port(given.model or minivl.api.TINY).run(inputs.arrays())
    vision, text = vlm.config.vision, vlm.config.text
    grids = tuple(tuple(map(int, grid)) for grid in inputs.grids)
    made = dump(tapped, given.way, given.output, Facts(grids, vision.window_cells, text.num_attention_heads,
                                                       text.num_key_value_heads, vision.num_heads))
    print(f"written to {made.path}: {len(made.of)} arrays")


if __name__ == "__main__":
    main()
