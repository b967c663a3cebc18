"""What lies in a folder where the weights of a model should be, in a word that its owner can search for.

Nothing here is read into the model; every answer ends with what to do. Read next: `read.py`, which asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
SAVE_AGAIN = f"save the model again with save_pretrained of a current transformers, which writes {SINGLE}"
RELEASE = "take the model's release in safetensors"
OTHER_TOOLS = {  # endings of files -> whose they are
    ".npz": "of MLX or NumPy",
    ".onnx": "of ONNX",
    ".h5": "of TensorFlow",
    ".msgpack": "of Flax",
    ".mnn": "of MNN",
    ".engine": "of TensorRT",
    ".plan": "of TensorRT",
    ".xml": "of OpenVINO",
    ".tflite": "of TFLite",
    ".mlpackage": "of Core ML",
    ".distcp": "a distributed checkpoint of PyTorch",
    ".llamafile": "of llamafile",
}


def variants(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files that the reference writes for `variant="fp16"`: of all tensors, and indexes of shards."""
    singles = [
        path for path in sorted(folder.glob("model.*.safetensors")) if not SHARD.fullmatch(path.name)
    ]
    return singles, sorted(folder.glob("model.safetensors.index.*.json"))


def instead_of_weights(folder: Path) -> str | None:
    """What is there and what to do; None when nothing is recognised."""
    if not folder.is_dir():
        return "there is no such folder"
    names = sorted(path.name for path in folder.iterdir())
    looks: tuple[Callable[[Path, list[str]], str | None], ...] = (
        _adapter,
        _shards,
        _variants,
        _pickle,
        _other_tool,
        _unfinished,
        _half_packed,
        _other_tensors,
        _deeper,
    )
    return next((words for look in looks if (words := look(folder, names))), None)


def _adapter(folder: Path, names: list[str]) -> str | None:
    if not {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"} & set(names):
        return None
    base = _value(folder / "adapter_config.json", "base_model_name_or_path")
    return (
        f"holds an adapter (of peft, such as LoRA){f' for {str(base)[:100]}' if base else ''}, not a "
        f"model: "
        "merge it into its model (merge_and_unload(), then save_pretrained) and give the folder of that"
    )


def _shards(folder: Path, names: list[str]) -> str | None:
    found = [match for name in names if (match := SHARD.fullmatch(name))]
    if not found:
        return None
    total = int(found[0][3])
    here = {int(match[2]) for match in found}
    lost = [n for n in range(1, min(total, 9999) + 1) if n not in here]
    also = f"; of its {total} shards {len(lost)} are missing as well, first number {lost[0]}" if lost else ""
    return (
        f"{found[0][0]} is a shard without its index, {INDEX}, which says where each tensor lies{also}: "
        "copy the index from where the shards come from, or save the model again"
    )


def _variants(folder: Path, names: list[str]) -> str | None:
    singles, indexes = variants(folder)
    found = ", ".join(path.name for path in (*singles, *indexes))
    words = f"holds several variants ({found}): copy the one that is meant to {SINGLE} or {INDEX}"
    return words if found else None


def _pickle(folder: Path, names: list[str]) -> str | None:
    first = sorted(names, key=lambda name: not name.startswith("pytorch_model"))
    found = _ending(first, ".bin", ".pt", ".pth", ".ckpt", ".bin.index.json")
    words = f"{found} is a pickle, which can run any code when it is read; {SAVE_AGAIN}"
    return words if found else None


def _other_tool(folder: Path, names: list[str]) -> str | None:
    found = _ending(names, *OTHER_TOOLS)
    if found is None:
        return None
    owner = OTHER_TOOLS[Path(found).suffix.lower()]
    return f"{found} is {owner}: such a conversion is not read; {RELEASE}"


def _half_packed(folder: Path, names: list[str]) -> str | None:
    words = ("holds packed.safetensors without packed.json, which says what its tiles are: copy both, or "
             "make the folder anew with minivl convert")
    return words if "packed.safetensors" in names else None


def _unfinished(folder: Path, names: list[str]) -> str | None:
    found = _ending(names, ".incomplete", ".part", ".crdownload", ".aria2", ".tmp")
    words = f"{found} is an unfinished download: let it finish, or fetch the model again"
    return words if found else None


def _other_tensors(folder: Path, names: list[str]) -> str | None:
    found = _ending(names, ".safetensors")
    words = f"holds {found}, but neither {SINGLE} nor {INDEX}: if it is the whole model, call it {SINGLE}"
    return words if found else None


def _deeper(folder: Path, names: list[str]) -> str | None:
    inner = [folder / name for name in names if (folder / name / "config.json").is_file()]
    inner += [path.parent for path in sorted(folder.glob("snapshots/*/config.json"))]
    return f"holds a checkpoint one level down: name the folder {inner[0]}" if inner else None


def _ending(names: list[str], *endings: str) -> str | None:
    """The first name with one of these endings."""
    return next((name for name in names if name.lower().endswith(endings)), None)


def quantisation(values: Mapping[str, Any]) -> Any:
    """What a config.json says of quantised numbers: transformers' key, or MLX's own."""
    theirs = values.get("quantization_config")
    known = isinstance(theirs, dict) and "quant_method" in theirs
    return {"quant_method": "mlx"} if values.get("quantization") and not known else theirs


def _value(path: Path, key: str) -> Any:
    """One value of a JSON file that may be damaged."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(1 << 20))
    except (OSError, ValueError, RecursionError):
        return None
    return found.get(key) if isinstance(found, dict) else None
