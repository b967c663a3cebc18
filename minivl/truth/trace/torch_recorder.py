"""Record any PyTorch module tree: what comes out of its modules, under their own names or, where they are those of the
reference, under minivl's labels.

    with listening(model, "mine.safetensors") as coverage:
        model(**inputs)                              # once: the prompt
    print(coverage)

PyTorch is not imported: a tree has `named_modules`, a module takes hooks, and a tensor can be made an array. Arrays are
kept as they are (batch axis, packed heads); `minivl diff` lays them right. Read next: `names.py`, the table of names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .names import TAPS, taps_of
from .recorder import Recorder


@dataclass
class Coverage:
    """What was listened to: labels that modules were found for, labels that something came by under, modules that no
    label was found for."""
    labels: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = {tap.label for taps in TAPS.values() for tap in taps}
        silent = sorted(set(self.labels) - {name.partition(":")[0] for name in self.heard})
        return (f"{len(set(self.labels))} stages found of {len(kinds)} kinds, {len(self.heard)} arrays written"
                + (f"; silent: {', '.join(silent[:4])}" if silent else "")
                + f"; {len(self.others)} modules have no label")


@contextmanager
def listening(model: Any, path: str | Path, everything: bool = False) -> Iterator[Coverage]:
    """Write what comes by while it is open. everything: modules without a label too, under their own names."""
    names = [name for name, _ in model.named_modules() if name]
    found, coverage = list(taps_of(names)), Coverage()
    known = {name for name, _ in found}
    coverage.labels = [tap.label for _, tap in found]
    coverage.others = [name for name in names if name not in known]
    with ExitStack() as stack:
        out = stack.enter_context(Recorder(path))
        for name, tap in found:
            label = tap.label if tap.part is None else f"{tap.label}:{tap.part}"
            stack.callback(hook(model.get_submodule(name), tap.after, out, label, coverage.heard).remove)
        for name in coverage.others if everything else ():
            stack.callback(hook(model.get_submodule(name), True, out, name, coverage.heard).remove)
        yield coverage


def hook(module: Any, after: bool, out: Recorder, name: str, heard: list[str]) -> Any:
    """A hook on one module that writes its output, or its first input."""
    def write(value: Any) -> None:
        value = value[0] if isinstance(value, tuple) and value else value
        if hasattr(value, "detach"):
            heard.append(out.put(name, array_of(value)))

    if after:
        return module.register_forward_hook(lambda module, args, output: write(output))

    def listen_before(module: Any, args: Any, kwargs: Any) -> None:
        write(args[0] if args else next(iter(kwargs.values()), None))
    return module.register_forward_pre_hook(listen_before, with_kwargs=True)


def array_of(tensor: Any) -> np.ndarray:
    """A tensor as an array of its own; bfloat16, which NumPy lacks, as float32, which holds it exactly."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype).endswith("bfloat16") else tensor).numpy()
