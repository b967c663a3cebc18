"""A checkpoint of 63 million parameters in the 3B's form: large enough that memory can be measured."""

from dataclasses import replace

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
