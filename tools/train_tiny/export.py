"""From weights in training to a checkpoint folder in the official layout: bf16 safetensors, flat config, tokenizer.

The folder is made beside its target and moved there when it is whole. The heads of pre-training stay behind.

Read next: `card.py`, which adds the model card.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from minivl.config import read_config, to_flat_json
from minivl.text.template import DEFAULT_TEMPLATE

from .network import MEAN, STD, Lean, config_for, fill, new_model
from .tokens import PATH, SPECIAL, load_tokenizer
from .world import MAX_PIXELS, MIN_PIXELS


def preprocessor() -> dict[str, Any]:
    return {"min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS, "patch_size": 14, "temporal_patch_size": 2,
            "merge_size": 2, "image_mean": list(MEAN), "image_std": list(STD),
            "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}


def tokenizer_settings() -> dict[str, Any]:
    return {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "bos_token": None,
            "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
            "additional_special_tokens": [f"<|{name}|>" for name in SPECIAL[1:]],
            "model_max_length": 4096, "errors": "replace", "split_special_tokens": False}


def generation_settings() -> dict[str, Any]:
    """Greedy and without a penalty: the official 1.05 would keep a small model from repeating a digit."""
    ids = {name: load_tokenizer().token_to_id(f"<|{name}|>") for name in ("im_end", "endoftext")}
    return {"do_sample": False, "eos_token_id": [ids["im_end"], ids["endoftext"]], "pad_token_id": ids["endoftext"],
            "bos_token_id": ids["endoftext"]}


def export(weights: Path, target: Path) -> None:
    """Write the checkpoint of `weights` (a phase's weights.pt) into the folder `target`, replacing an older one."""
    state = torch.load(weights, weights_only=True)
    if "flat" in state:
        raise ValueError(f"{weights} is a checkpoint in training; export takes the weights.pt of a phase that is done, "
                         "and `average RUN TARGET` exports what a run of go-on has now")
    write(state, target, weights)


def blend(first: Path, second: Path, target: Path, share: float) -> None:
    """Write the mean of two phases' weights.pt, `share` of the second.

    Two ends of training that began from the same weights err in different places, and their mean is often better than
    either. Source: Wortsman et al., "Model soups" (2022), section 3.1.
    """
    one, other = (torch.load(path, weights_only=True) for path in (first, second))
    write({name: (1 - share) * value.float() + share * other[name].float() for name, value in one.items()
           if name in other}, target, first)


def write(state: dict[str, torch.Tensor], target: Path, where: Path) -> None:
    """The same of a network's state, which comes from the file `where`. Raises ValueError for another network's."""
    lean = Lean(new_model(config_for(load_tokenizer()), 0))
    fill(lean, state, where)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    lean.model.to(torch.bfloat16).save_pretrained(partial)
    flat = to_flat_json(read_config(partial)) | {"torch_dtype": "bfloat16"}
    vocabulary = json.loads(PATH.read_text(encoding="utf-8"))["model"]
    texts = {"config.json": flat, "preprocessor_config.json": preprocessor(), "vocab.json": vocabulary["vocab"],
             "tokenizer_config.json": tokenizer_settings(), "generation_config.json": generation_settings(),
             "chat_template.json": {"chat_template": DEFAULT_TEMPLATE}}
    for name, values in texts.items():
        (partial / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8", newline="\n")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in vocabulary["merges"]]
    (partial / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8", newline="\n")
    shutil.copyfile(PATH, partial / "tokenizer.json")
    old = target.with_name(target.name + ".old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)            # left by an export that was killed
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
