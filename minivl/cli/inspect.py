"""`minivl inspect`: a checkpoint's folder, as far as it can be read, and everything that is wrong with
it.

Each part is read by itself, so that one broken file does not hide the others. Read next:
`checkpoint/names.py` of the package (the audit), `config/read.py` (the rules).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any

from .. import api
from ..checkpoint.awq import FourBit
from ..checkpoint.gguf import Blocks
from ..checkpoint.gguf_model import Pair, pair_of
from ..checkpoint.instead import INDEX, SINGLE, quantisation
from ..checkpoint.names import HEAD, TABLE, audit, expected_of, hub_name, shapes, unpacked
from ..checkpoint.packed import Packed
from ..checkpoint.packed_folder import TILES, damaged, is_packed, read_about
from ..checkpoint.read import read_tensors
from ..checkpoint.safetensors import ITEM, File
from ..checkpoint.tree import Weight
from ..checkpoint.weight import CheckpointError, Interleaved, Joined, Reordered
from ..config import (
    OFFICIAL,
    ConfigError,
    GenerationConfig,
    ModelConfig,
    official_config,
    read_video_preprocessor,
)
from ..config.rules import FIXED_SAMPLING
from ..door.files import read_json
from ..passes.prompt import load_template
from ..text.tokenizer import Tokenizer
from .console import facts, heading, line, print_json, size, table, working

FILES = {                  # any one of these names, what it is for, and whether nothing works without it
    ("config.json",): ("the model's dimensions", True),
    (SINGLE, INDEX, TILES): ("weights", True),
    ("tokenizer.json", "vocab.json"): ("text; vocab.json together with merges.txt", True),
    ("preprocessor_config.json", "processor_config.json"): ("pictures; else the releases' values", False),
    ("video_preprocessor_config.json",): ("videos; else processor_config.json, or as pictures", False),
    ("chat_template.json", "chat_template.jinja",
     "tokenizer_config.json"): ("prompts; else the family's", False),
    ("generation_config.json",): ("choosing tokens; else greedy", False),
}


def inspect(model: str | None, as_json: bool) -> bool:
    """Print what is in the folder; True when the audit passes and nothing is broken.

    Raises FileNotFoundError when there is no such folder; whatever else is wrong is reported.
    """
    folder = api.find(model)
    with working(f"reading {folder}"):
        found = examine(folder)
    print_json(found) if as_json else show(found)
    return found["ok"]


def settings_of(folder: Path, config: ModelConfig | None, tried: Callable[[Callable[[], Any]], Any],
                foreign: bool) -> dict[str, Any]:
    """Settings for pictures, for videos and of answers; None for what cannot be read."""
    if config is None:
        return {"preprocessor": None, "videos": None, "generation": None}
    return {"preprocessor": tried(lambda: api.picture_settings(folder, config)),
            "videos": None if foreign else tried(lambda: read_video_preprocessor(folder, config)),
            "generation": api.generation_of(folder, config)}


def examine(folder: Path) -> dict[str, Any]:
    """Everything about the folder as plain data."""
    problems: list[str] = []

    def tried(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (ValueError, OSError) as error:
            problems.append(str(error))
            return None

    path = folder / "config.json"
    foreign = tried(lambda: pair_of(folder))                  # of llama.cpp: all of it is in its metadata
    values = {} if foreign else tried(lambda: read_json(path, ConfigError)) or {}
    config = tried(lambda: api.config_of(folder)) if values or foreign else None
    with warnings.catch_warnings(record=True) as said:       # of files that disagree
        warnings.simplefilter("always")
        others = settings_of(folder, config, tried, bool(foreign))
        tried(lambda: api.read_processor(folder, config) if foreign and config else
              Tokenizer.from_folder(folder) if not foreign else None)
    notes = [str(one.message) for one in said] + generation_notes(others["generation"])
    tried(lambda: None if foreign else load_template(folder))
    with ExitStack() as stack:
        tensors = open_tensors(folder, problems, stack)
        if config:
            tensors = tried(lambda: unquantised(folder, tensors, values)) or tensors
        report = tried(lambda: audit(tensors, config)) if config and tensors else None
        about = weights_document(tensors, config)
    packing = tried(lambda: packing_of(folder)) if is_packed(folder) else None
    if packing and not problems:
        problems += damaged(folder)
    audited = {**asdict(report), "ok": report.ok, "text": str(report)} if report else None
    return {"folder": str(folder), "ok": bool(report and report.ok and not problems),
            "official_size": official_size(config), "packed": packing,
            "files": pair_files(foreign) if foreign else files(folder), "problems": problems,
            "notes": notes, "config": asdict(config) if config else None,
            **{name: values_of(part) for name, part in others.items()},
            **about, "audit": audited}


def packing_of(folder: Path) -> dict[str, Any]:
    """How a packed folder was made."""
    about = read_about(folder)
    return {"weights": about.weights, "source": about.source.get("name"), "minivl": about.minivl}


def unquantised(folder: Path, tensors: Mapping[str, Weight], values: Mapping[str, Any]
                ) -> Mapping[str, Weight]:
    """Tensors as loading takes them, those of AWQ put together. Raises what it would say of others."""
    try:
        return unpacked(tensors, quantisation(values))
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def values_of(part: Any) -> dict[str, Any] | None:
    """A part's values; what of them cannot be used stands among the notes."""
    return {key: value for key, value in asdict(part).items() if key != "refused"} if part else None


def generation_notes(generation: GenerationConfig | None) -> list[str]:
    """What generation_config.json says that cannot be used. That is no fault of the weights."""
    refused = dict(generation.refused) if generation else {}
    idle = {row.key for row in FIXED_SAMPLING} | {"temperature", "top_k", "top_p"}
    return [f"{words}; {'sampling' if key in idle else 'generating'} is refused, weights and scores "
            "are not" for key, words in refused.items()]


def open_tensors(folder: Path, problems: list[str], stack: ExitStack) -> Mapping[str, Weight]:
    """The folder's tensors; when they cannot be opened as one, those of every .safetensors file that
    can."""
    try:
        return stack.enter_context(read_tensors(folder))
    except (ValueError, OSError) as error:
        problems.append(str(error))
    found: dict[str, Weight] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name == TILES:                                # words of tiles, which are no weights by themselves
            continue
        try:
            file = File(path)
        except (ValueError, OSError) as error:
            if str(error) not in problems:
                problems.append(str(error))
            continue
        stack.callback(file.close)
        found |= file.tensors
    return found


def weights_document(tensors: Mapping[str, Weight], config: ModelConfig | None) -> dict[str, Any]:
    """Counts of the tensors that could be opened, by format and by part of the model."""
    formats = Counter(weight.format for weight in tensors.values())
    official = official_size(config)
    expected = expected_of(tensors, official_config(official) if official else config) if config else {}
    held = {name: prod(weight.shape) for name, weight in tensors.items()}
    return {"tensors": {"count": len(tensors), "expected": len(expected) or None,
                        "formats": dict(formats),
                        "bytes": sum(map(bytes_of, tensors.values())),
                        "parameters": sum(held.values())},
            "parts": parts(held, {name: prod(shape) for name, shape in expected.items()}),
            "head": {"tied": config.tie_word_embeddings if config else None,
                     "tensor": any(hub_name(name) in (HEAD, "decoder.head") for name in tensors)}}


def bytes_of(weight: Weight) -> int:
    """What a weight takes in its file."""
    if isinstance(weight, Joined | Interleaved):
        return sum(map(bytes_of, weight.parts))
    if isinstance(weight, Reordered):
        return bytes_of(weight.weight)
    if isinstance(weight, Packed | Blocks | FourBit):
        return weight.nbytes
    return prod(weight.shape) * ITEM[weight.format.upper()]


def parts(held: Mapping[str, int], expected: Mapping[str, int]) -> list[dict[str, Any]]:
    """Parameters of each part of the model, and how many there should be."""
    here, should = Counter[str](), Counter[str]()
    for found, counts in ((here, held), (should, expected)):
        for tensor, n in counts.items():
            found[part_of(tensor)] += n
    return [{"part": name, "parameters": here[name], "expected": should[name] if expected else None}
            for name in [*dict.fromkeys(map(part_of_place, TABLE)), "other"] if name in here
            or name in should]


def part_of_place(place: str) -> str:
    """`vision.blocks.*.out.weight` lies in `vision.blocks`."""
    return ".".join(place.split(".")[:2])


def part_of(tensor: str) -> str:
    """The part of the model that a tensor belongs to, by the one table of names; `other` when it is
    not in it."""
    name = hub_name(tensor)
    return next((part_of_place(place) for place, sources in TABLE.items()
                 if any(fnmatchcase(name, pattern) for pattern in (place, *sources))), "other")


def official_size(config: ModelConfig | None) -> str | None:
    """"3B", "7B", "32B" or "72B" when the configuration asks for exactly the tensors of that release."""
    if config is None:
        return None
    wanted = shapes(config)
    return next((name for name in OFFICIAL if shapes(official_config(name)) == wanted), None)


def files(folder: Path) -> list[dict[str, Any]]:
    """The files that are read, present or missing."""
    rows = []
    for names, (purpose, needed) in FILES.items():
        there = next((folder / name for name in names if (folder / name).is_file()), None)
        rows.append({"file": there.name if there else " or ".join(names), "for": purpose,
                     "needed": needed,
                     "present": there is not None, "bytes": there.stat().st_size if there else None})
    return rows


def pair_files(pair: Pair) -> list[dict[str, Any]]:
    """The two files of llama.cpp; without a tower's the model reads text alone."""
    rows = [(pair.language, "weights, dimensions, tokenizer, template"), (pair.tower, "the vision tower")]
    return [{"file": path.name if path else "mmproj*.gguf", "for": purpose, "needed": False,
             "present": path is not None, "bytes": path.stat().st_size if path else None}
            for path, purpose in rows]


# ---- showing -------------------------------------------------------------------------------------

def show(found: dict[str, Any]) -> None:
    """The document as tables, the verdict last, where it is seen."""
    heading(found["folder"])
    table(("file", "bytes", "for"), [(f["file"], state(f), f["for"]) for f in found["files"]],
          right=("bytes",),
          droppable=("for",))
    for name in ("config", "preprocessor", "videos", "generation"):
        show_values(name, found[name])
    for one in found["notes"]:
        line(f"note: {one}")
    if packed := found["packed"]:
        line(f"packed: {packed['weights']}, from {packed['source']}, by minivl {packed['minivl']}; its "
             "tensors are called by their places in the model")
    show_weights(found)
    show_audit(found)


def state(file: dict[str, Any]) -> str:
    """Size of a file that is there, else what its absence means."""
    return f"{file['bytes']:,}" if file["present"] else "MISSING" if file["needed"] else "absent"


def show_values(name: str, values: dict[str, Any] | None, indent: str = "") -> None:
    """Configuration values, sections after plain values."""
    line()
    heading(name if values is not None else f"{name}: cannot be read")
    plain = [(f"  {key}", value) for key, value in (values or {}).items() if not isinstance(value, dict)]
    if plain:
        facts(plain)
    for key, value in (values or {}).items():
        if isinstance(value, dict):
            show_values(f"{name}, {key}", value)


def show_weights(found: dict[str, Any]) -> None:
    tensors, head = found["tensors"], found["head"]
    formats = ", ".join(f"{n:,} {name}" for name, n in sorted(tensors["formats"].items())) or "none"
    line()
    heading("weights")
    facts([("  tensors", f"{tensors['count']:,} ({formats}), {size(tensors['bytes'])}"),
           ("  head", head_words(head)), ("  official size", found["official_size"] or "none")])
    rows = [(p["part"], f"{p['parameters']:,}", agreement(p)) for p in found["parts"]]
    total = [p["expected"] for p in found["parts"] if p["expected"] is not None]
    rows.append(("all", f"{tensors['parameters']:,}",
                 agreement({"parameters": tensors["parameters"],
                            "expected": sum(total) if total else None})))
    expected = f"as in {found['official_size']}" if found["official_size"] else "as configured"
    table(("  part", "parameters", expected), [(f"  {name}", n, e) for name, n, e in rows],
          right=("parameters",))


def head_words(head: dict[str, Any]) -> str:
    if head["tied"] is None:
        return "a tensor of its own" if head["tensor"] else "no tensor of its own"
    if head["tied"]:
        return "tied to the embedding" + (", yet there is a tensor for it" if head["tensor"] else "")
    return "of its own" + ("" if head["tensor"] else ", but its tensor is missing")


def agreement(part: dict[str, Any]) -> str:
    if part["expected"] is None:
        return ""
    return "yes" if part["expected"] == part["parameters"] else f"no: {part['expected']:,}"


def show_audit(found: dict[str, Any]) -> None:
    """The audit's report, and whatever could not be read."""
    line()
    heading("audit")
    text = found["audit"]["text"] if found["audit"] else not_audited(found)
    for one in (*text.splitlines(), *(f"broken: {problem}" for problem in found["problems"])):
        line(f"  {one}")
    line("ok" if found["ok"] else "NOT OK")


def not_audited(found: dict[str, Any]) -> str:
    """Why there is no audit."""
    lacking = [name for name, there in (("configuration", found["config"]), ("weights", found["tensors"]["count"]))
               if not there]
    why = f"the {' and the '.join(lacking)} could not be read" if lacking else "they could not be compared"
    return f"not possible: it compares the weights with the configuration, and {why}; see below"
