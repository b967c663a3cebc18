"""A checkpoint of 63 million parameters in the 3B's form: large enough that memory can be measured."""

import json
from dataclasses import replace

import numpy as np

from tools.checkpoints.make_checkpoint import config_of, make_checkpoint


def make_narrow(target):
    """Write it into the folder `target`; gives the folder."""
    config = config_of("3B")
    vision = replace(config.vision, depth=6, fullatt_block_indexes=(5,), hidden_size=400, num_heads=5,
                     intermediate_size=1068, out_hidden_size=640)
    text = replace(config.text, num_hidden_layers=6, vocab_size=704, hidden_size=640, num_attention_heads=5,
                   num_key_value_heads=1, intermediate_size=3440)
    make_checkpoint(replace(config, vision=vision, text=text), target)
    return target


def language_file(folder, target):
    """The language model of such a checkpoint as a .gguf file of Q8_0; gives its folder."""
    import gguf

    import minivl

    from . import quantised_files as files
    if target.exists():
        return target
    target.mkdir()
    config = json.loads((folder / "config.json").read_text())
    out = gguf.GGUFWriter(str(target / "model.gguf"), "qwen2vl")
    files.language_metadata(out, config)
    with minivl.load(folder, kernels="definition") as vlm:
        for name, weight in vlm._tensors.items():
            if not name.startswith("visual"):
                called = files.hub_to_gguf(gguf.MODEL_ARCH.QWEN2VL, name, config["num_hidden_layers"])
                files.add(out, called, np.array(weight.dense(np.float32)), "Q8_0")
    files.finish(out)
    return target
