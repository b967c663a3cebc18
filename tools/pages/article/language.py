"""Claims 18, 19 and 34: what comes out, what a conversation is, and the sizes."""

from __future__ import annotations

from math import prod

import numpy as np

from minivl.checkpoint.names import shapes
from minivl.config import OFFICIAL, official_config

from .finding import Finding, claim, verdict, yes
from .setting import CONFIG, TRAINED, cells, embedded

OUTPUTS = ('[{"bbox_2d": [12, 34, 56, 78], "label": "a"}]', "<h1>Total</h1><p>12.50</p>", "At 83 s.")


def survives(text: str) -> bool:
    """Whether a text goes to token ids and back unchanged."""
    tokenizer = embedded().tokenizer
    return tokenizer.decode(tokenizer.encode(text)) == text


@claim(18, "the outputs are text, JSON, HTML and coordinates")
def outputs() -> Finding:
    """They are, and all four are the same thing: text, one token at a time, from one output matrix. There
    is no detector and no box regression; a coordinate is written digit by digit like any number. So
    nothing guarantees that JSON closes its brackets or that a box lies inside the picture: a program that
    reads them must check.
    """
    wide = [name for name, shape in shapes(CONFIG).items() if CONFIG.text.vocab_size in shape]
    inside = ("visual.", "model.")
    others = [name for name in shapes(CONFIG) if not name.startswith(inside) and name not in wide]
    kept = all(map(survives, OUTPUTS))
    figures = (f"tensors of the official 7B as wide as the vocabulary: {', '.join(wide)}",
               f"tensors that belong to any other output: {len(others)}",
               f"a box, a piece of HTML and a time survive the way to token ids and back: {yes(kept)}")
    return Finding(verdict(not others and kept), figures)


@claim(19, "multi-turn dialogue and long documents")
def dialogue() -> Finding:
    """The form allows both: a conversation is one growing sequence, a picture in its first turn stays in
    view, and what was computed for earlier turns remains valid. Long documents are a matter of budget, as
    the second figure shows; pages can be made smaller at the cost of small print. How good the answers
    are is not tested here; scores are in the technical report (arXiv 2502.13923).
    """
    vlm, picture = embedded(), np.full((56, 84, 3), 128, np.uint8)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is it?"}]
    turns = [{"role": "user", "content": content},
             {"role": "assistant", "content": "A star."}, {"role": "user", "content": "What color?"},
             {"role": "assistant", "content": "Red."}, {"role": "user", "content": "Where?"}]
    shorter, longer = vlm.prepare(turns[:1]), vlm.prepare(turns)
    n = len(shorter.input_ids)
    prefix = bool(np.array_equal(longer.input_ids[:n], shorter.input_ids)
                  and np.array_equal(longer.position_ids[:, :n], shorter.position_ids))
    kept = bool(np.allclose(vlm.logits(longer)[:n], vlm.logits(shorter), atol=1e-3))
    page = cells(1754, 1240)
    figures = (f"the first turn is the beginning of the third, in ids and positions: {yes(prefix)}; in "
               f"scores: {yes(kept)}",
               f"a page scanned at 150 dpi (1754 x 1240) is {page:,} tokens; {TRAINED // page} of them fit "
               f"into {TRAINED:,}")
    return Finding(verdict(prefix and kept), figures)


@claim(34, "the sizes are 3B, 7B and 72B (and 32B)")
def sizes() -> Finding:
    """The names are rounded down, most of all the 3B with its 3.75 billion parameters. All sizes have the
    same vision tower of about 0.67 to 0.70 billion parameters; only the width of its MLP (3,420 or 3,456)
    and of its output differ. 3B, 7B and 72B are in the technical report (arXiv 2502.13923); 32B was
    released later.
    """
    configs = {name: official_config(name) for name in OFFICIAL}
    head = ("name", "parameters", "of them vision tower", "layers", "width", "cache bytes a token")
    table: list[tuple[str, ...]] = [head]
    near = []
    for name, config in configs.items():
        sizes = {key: prod(shape) for key, shape in shapes(config).items()}
        total, seen = sum(sizes.values()), sum(n for key, n in sizes.items() if key.startswith("visual."))
        text = config.text
        row = 2 * text.num_hidden_layers * text.kv_heads * text.head_dim * 2
        numbers = (total, seen, text.num_hidden_layers, text.hidden_size, row)
        table.append((name, *(f"{number:,}" for number in numbers)))
        near.append(0.75 < int(name[:-1]) * 1e9 / total <= 1)
    return Finding(verdict(all(near)), (f"released configurations: {', '.join(configs)}",), tuple(table))
