"""Write a checkpoint of random numbers in the official layout, at the full width of a released size.

    python -m tools.checkpoints.make_checkpoint 3B OUT_DIR         # 7.5 GB: config, tokenizer, two shards and an index

It is for what needs the real shapes and not the real answers: loading, memory, time, sharding, the readers of
other programs. It is not a trained model: its answers are noise, though signals keep a healthy size in all of
its layers.

Two things differ from a release. The tokenizer is the embedded model's, so the token ids in config.json are
that tokenizer's (a release has 151655 for a picture); an id beyond its vocabulary decodes to no text. And the
numbers repeat: BLOCK normal numbers are drawn once, and every tensor reads on from a place of its own, around
and around, at its own scale. BLOCK is prime, so that no two rows of a matrix begin at the same number (up to
BLOCK rows). A tensor depends on the seed and its hub name alone, whatever the layout and the shards.

Read next: `minivl/checkpoint/names.py` (the table of tensors), `tools/bench/load_3b.py` (what 3B costs).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from minivl.api import TINY
from minivl.checkpoint.names import LAYOUTS, shapes
from minivl.checkpoint.read import INDEX, SINGLE
from minivl.config import (
    OFFICIAL,
    OFFICIAL_PICTURES,
    ModelConfig,
    official_config,
    read_config,
    to_flat_json,
    to_nested_json,
)

Shape = tuple[int, ...]
BLOCK = 4_194_301                    # numbers drawn: the largest prime below 2**22
SPARE = 64 * 2**20                   # bytes left free on the disk beyond the checkpoint's own
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


# ---- which tensors, and in which file ----------------------------------------------------------------------

def config_of(name: str, small: bool = False) -> ModelConfig:
    """A released size's configuration with the embedded tokenizer's token ids; `small` keeps the form alone.

    Raises ConfigError when no release has this name.
    """
    embedded, config = read_config(TINY), official_config(name)
    if small:
        vision = replace(config.vision, depth=4, hidden_size=48, num_heads=3, intermediate_size=100, head_dim=16,
                         fullatt_block_indexes=(1, 3), out_hidden_size=64)
        text = replace(config.text, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                       num_key_value_heads=2, head_dim=16, intermediate_size=160, mrope_section=(2, 3, 3),
                       vocab_size=embedded.text.vocab_size)
        config = replace(config, vision=vision, text=text)
    ids = {f.name: getattr(embedded, f.name) for f in fields(config) if f.name.endswith("_token_id")}
    return replace(config, **ids)


def plan(config: ModelConfig, max_bytes: int) -> list[dict[str, Shape]]:
    """Every tensor (hub name -> shape), block after block, in shards of at most `max_bytes` of numbers.

    A tensor that is larger than that has a shard to itself.
    """
    def block_order(item: tuple[str, Shape]) -> list[str]:
        return [part.zfill(4) for part in item[0].split(".")]            # layers.10 comes after layers.9

    shards: list[dict[str, Shape]] = [{}]
    for name, shape in sorted(shapes(config).items(), key=block_order):
        if shards[-1] and size_of(shards[-1]) + 2 * prod(shape) > max_bytes:
            shards.append({})
        shards[-1][name] = shape
    return shards


def size_of(tensors: Mapping[str, Shape]) -> int:
    """Bytes of these tensors in bf16."""
    return sum(2 * prod(shape) for shape in tensors.values())


def name_in(layout: str, name: str) -> str:
    """A hub name in the layout "hub" (as released) or "memory" (what the reference calls its tensors)."""
    if layout == "memory":
        for memory, hub in LAYOUTS:
            if name.startswith(hub):
                return memory + name[len(hub):]
    return name


# ---- numbers -----------------------------------------------------------------------------------------------

def draw_block(seed: int, size: int = BLOCK) -> np.ndarray:
    """The normal numbers that all tensors are made of: (size,) float32."""
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def scale(name: str, shape: Shape) -> tuple[float, float]:
    """Mean and standard deviation that keep signals healthy; with the reference's own 0.02 they fade away.

    matrices N(0, 1/fan_in), biases N(0, 0.05^2), norms 1 + 0.1 N
    """
    if len(shape) > 1:
        return 0.0, prod(shape[1:]) ** -0.5
    return (0.0, 0.05) if name.endswith(".bias") else (1.0, 0.1)


def numbers(name: str, shape: Shape, block: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """The tensor of this hub name as bf16 bits, piece by piece, never more than a block at a time."""
    first = int(np.random.default_rng([seed, crc32(name.encode("utf-8"))]).integers(len(block)))
    count, (mean, deviation) = prod(shape), scale(name, shape)
    place = np.arange(first, first + min(count, len(block)))
    bits = to_bf16(np.float32(mean) + np.float32(deviation) * block.take(place, mode="wrap"))
    for start in range(0, count, len(bits)):
        yield bits[: count - start]


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Finite float32 rounded to nearest even, as 16 bits: bf16 is the upper half of a float32."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


# ---- files -------------------------------------------------------------------------------------------------

def header(tensors: Mapping[str, Shape], layout: str) -> bytes:
    """What stands before the numbers in a safetensors file: the length of a JSON text, and that text."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}     # the reference refuses a file without it
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + 2 * prod(shape)
        entries[name_in(layout, name)] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)                                  # numbers start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def settings(config: ModelConfig, nested: bool) -> dict[str, dict[str, Any]]:
    """The JSON files beside the weights, by name, with the values of the releases."""
    vision, end = config.vision, config.eos_token_id
    ends = [end] if isinstance(end, int) else list(end)
    pad = ends[0] if config.bos_token_id is None else config.bos_token_id      # <|endoftext|> in the releases
    return {
        "config.json": (to_nested_json if nested else to_flat_json)(config) | {"torch_dtype": "bfloat16"},
        "generation_config.json": {"do_sample": True, "temperature": 1e-6, "repetition_penalty": 1.05,
                                   "eos_token_id": list(dict.fromkeys([*ends, pad])), "bos_token_id": pad,
                                   "pad_token_id": pad},
        "preprocessor_config.json": asdict(OFFICIAL_PICTURES) | {
            "patch_size": vision.patch_size, "temporal_patch_size": vision.temporal_patch_size,
            "merge_size": vision.spatial_merge_size,
            "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"},
    }


def write_weights(folder: Path, shards: list[dict[str, Shape]], layout: str, seed: int,
                  progress: Callable[[int, int], None]) -> None:
    """One file, or shards with their index. `progress` is told bytes written and bytes in all."""
    block, total = draw_block(seed), sum(map(size_of, shards))
    done, index = 0, {}
    for n, tensors in enumerate(shards, 1):
        file_name = SINGLE if len(shards) == 1 else f"model-{n:05}-of-{len(shards):05}.safetensors"
        with (folder / file_name).open("wb") as file:
            file.write(header(tensors, layout))
            for name, shape in tensors.items():
                for piece in numbers(name, shape, block, seed):
                    done += file.write(piece.data)
                    progress(done, total)
                index[name_in(layout, name)] = file_name
    if len(shards) > 1:
        index = dict(sorted(index.items()))
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": index})


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8", newline="\n")


def make_checkpoint(config: ModelConfig, target: Path, seed: int = 0, max_bytes: int = 5 * 10**9,
                    layout: str = "hub", nested: bool = False,
                    progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Write the checkpoint of `config` into the folder `target`, which must be empty or not there.

    It is written beside the target, as `target.partial`, and moved there when it is complete; a run that ends
    early, in whatever way short of being killed outright, takes the partial folder with it.
    Raises FileExistsError, FileNotFoundError, or OSError when the disk is too small, before writing anything.
    """
    shards = plan(config, max_bytes)
    partial = target.with_name(target.name + ".partial")
    check_room(target, partial, sum(map(size_of, shards)))
    partial.mkdir()
    try:
        for name, values in settings(config, nested).items():
            write_json(partial / name, values)
        for source in sorted([*TINY.glob("tokenizer*"), *TINY.glob("chat_template*")]):
            shutil.copyfile(source, partial / source.name)
        write_weights(partial, shards, layout, seed, progress)
        if target.exists():
            target.rmdir()                                               # empty, or this fails
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_room(target: Path, partial: Path, total: int) -> None:
    """Refuse a target that is in use, and a disk that cannot hold `total` bytes."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target} is not an empty folder; name a new one, nothing is overwritten")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent} is not a folder; make it first")
    if partial.exists():
        raise FileExistsError(f"{partial} is there: another run is writing it, or was killed; then remove it")
    free, needed = shutil.disk_usage(target.parent).free, total + SPARE
    if free < needed:
        raise OSError(f"{target.parent} has {free / 1e9:.2f} GB free, the checkpoint needs "
                      f"{needed / 1e9:.2f}")


# ---- command line ------------------------------------------------------------------------------------------

def bytes_of(text: str) -> int:
    """`5GB` is 5,000,000,000 bytes, as the reference counts; KB MB GB KiB MiB GiB, or no unit for bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMG]I?B)?", text.strip().upper())
    size = int(float(found[1]) * UNITS[found[2] or ""]) if found else 0
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 5GB or 500MB")
    return size


def percent_bar() -> Callable[[int, int], None]:
    """Progress on stderr: one line that is written over on a terminal, a line for every tenth in a log."""
    last, terminal = -1, sys.stderr.isatty()
    step, end = (1, "\r") if terminal else (10, "\n")

    def show(done: int, total: int) -> None:
        nonlocal last
        part = 100 * done // total // step * step
        if part > last:
            last = part
            text = f"{part:3} % of {total / 1e9:.2f} GB"
            print(text, end="\n" if part == 100 else end, file=sys.stderr, flush=True)
    return show


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.checkpoints.make_checkpoint",
                                     description="Write a random bf16 checkpoint in the official layout.")
    parser.add_argument("size", choices=OFFICIAL, help="the released size whose shapes it has")
    parser.add_argument("out", type=Path, help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0, help="0 or more; the same seed gives the same bytes")
    parser.add_argument("--max-shard-size", type=bytes_of, default="5GB", metavar="SIZE")
    parser.add_argument("--layout", choices=("hub", "memory"), default="hub", help="names of the tensors")
    parser.add_argument("--config", choices=("flat", "nested"), default="flat", help="form of config.json")
    parser.add_argument("--small", action="store_true", help="the same form at a tiny width, for tests")
    given = parser.parse_args(arguments)
    if given.seed < 0:
        parser.error(f"--seed is {given.seed}; it must be 0 or more")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))    # an exit that cleans up
    try:
        make_checkpoint(config_of(given.size, given.small), given.out.absolute(), given.seed,
                        given.max_shard_size, given.layout, given.config == "nested", percent_bar())
    except OSError as error:
        print(f"make_checkpoint: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nmake_checkpoint: interrupted; {given.out} was not made", file=sys.stderr)
        return 130
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
