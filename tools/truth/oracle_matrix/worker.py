"""What runs inside a version's own environment: load the checkpoint, run every prompt, keep what the stages gave.

    PYTHONPATH=ROOT python -m tools.truth.oracle_matrix.worker MODEL OUT PROMPT.npz ...

Into OUT go PROMPT-TYPE-ATTENTION.safetensors with the stages of a run on minivl's positions, PROMPT-positions.npy
with the version's own, and result.json. Imported are torch, transformers, NumPy and minivl's recorder; nothing here
may depend on what a version of transformers calls its own things, beyond the class and the names of modules in
`minivl/truth/trace/names.py`.
"""

from __future__ import annotations

import json
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from minivl.truth.trace.torch_recorder import array_of, listening

TYPES, ATTENTION = ("float32", "bfloat16"), ("sdpa", "eager")


def load(folder: str, precision: str, attention: str) -> tuple[Any, dict[str, list[str]]]:
    """The model as this version loads it, and the keys of the checkpoint that it missed or did not use."""
    name = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    model, info = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, attn_implementation=attention, output_loading_info=True, **{name: getattr(torch, precision)})
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return model.eval(), {word: sorted(set(map(str, info.get(word, []))) - tied) for word in ("missing_keys",
                                                                                              "unexpected_keys")}


def call(model: Any, given: dict[str, np.ndarray], positions: np.ndarray | None) -> np.ndarray:
    """One forward pass, on these positions or on the version's own: logits s v."""
    inputs = {name: torch.tensor(array) for name, array in given.items() if len(array) and name != "position_ids"}
    ids = inputs.pop("input_ids")[None]
    kinds = 1 * (ids == model.config.image_token_id) + 2 * (ids == model.config.video_token_id)
    inputs |= {"attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds}
    if "second_per_grid_ts" in inputs:
        inputs["second_per_grid_ts"] = inputs["second_per_grid_ts"].float()
    known = signature(model.forward).parameters
    at = {} if positions is None else {"position_ids": torch.tensor(positions)[:, None]}
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, **{k: v for k, v in inputs.items() if k in known}, **at).logits
    return array_of(logits[0])


def own_positions(model: Any, given: dict[str, np.ndarray]) -> np.ndarray:
    """The positions that this version gives the prompt: what the decoder's rotary embedding is first called with.

    Some versions keep one in every layer as well, which is never called.
    """
    heard: list[np.ndarray] = []

    def listen(module: Any, args: Any, kwargs: Any) -> None:
        heard.append(array_of(kwargs["position_ids"] if "position_ids" in kwargs else args[1]))
    hooks = [module.register_forward_pre_hook(listen, with_kwargs=True) for name, module in model.named_modules()
             if name.endswith("rotary_emb") and "visual" not in name]
    for owner in (model, getattr(model, "model", None)):
        if getattr(owner, "rope_deltas", None) is not None:               # of the prompt before
            owner.rope_deltas = None
    try:
        call(model, given, None)
    finally:
        for hook in hooks:
            hook.remove()
    return heard[0].reshape(-1, heard[0].shape[-1])[-3:]


def run(folder: str, out: Path, prompts: list[Path]) -> dict[str, Any]:
    """Everything that this version is asked; errors as text."""
    result: dict[str, Any] = {"transformers": transformers.__version__, "torch": torch.__version__, "loading": {},
                              "errors": {}}
    for precision in TYPES:
        for attention in ATTENTION:
            way = f"{precision}-{attention}"
            try:
                model, result["loading"][way] = load(folder, precision, attention)
            except Exception as error:                                    # another version's: any kind
                result["errors"][way] = said(error)
                continue
            for path in prompts:
                try:
                    one(model, path, out, way)
                except Exception as error:
                    result["errors"][f"{way} {path.stem}"] = said(error)
    return result


def one(model: Any, path: Path, out: Path, way: str) -> None:
    """One prompt: its stages on minivl's positions, and once the version's own positions and its logits on them."""
    given = dict(np.load(path))
    with listening(model, out / f"{path.stem}-{way}.safetensors"):
        call(model, given, given["position_ids"])
    if way == f"{TYPES[0]}-{ATTENTION[0]}":
        np.save(out / f"{path.stem}-positions.npy", own_positions(model, given))


def said(error: Exception) -> str:
    """An error in one line."""
    words = str(error).splitlines()[:1]
    return ": ".join([type(error).__name__, *words])[:200]


def main() -> None:
    folder, out, *prompts = sys.argv[1:]
    torch.set_num_threads(1)
    result = run(folder, Path(out), list(map(Path, prompts)))
    (Path(out) / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
