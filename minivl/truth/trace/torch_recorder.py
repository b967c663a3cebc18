"""Record any PyTorch module tree: what comes out of its modules, under their own names or, where they
are those of the reference, under minivl's labels.

    with listening(model, "mine.safetensors") as coverage:
        model(**inputs)                              # once: the prompt
    print(coverage)

PyTorch is not imported: a tree has `named_modules`, a module takes hooks, and a tensor can be made an
array. Arrays are kept as they are (batch axis, packed heads); `minivl diff` lays them right. Read
next: `names.py`, the table of names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .names import TAPS, taps_of
from .recorder import Recorder


@dataclass
class Coverage:
    """What was listened to: labels that modules were found for, labels that something came by under,
    modules that no label was found for."""
    labels: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = {tap.label for taps in TAPS.values() for tap in taps}
        silent = sorted(set(self.labels) - {name.partition(":")[0] for name in self.heard})
        return (f"{len(set(self.labels))} stages found of {len(kinds)} kinds, {len(self.heard)} arrays "
                "written"
                + (f"; silent: {', '.join(silent[:4])}" if silent else "")
                + f"; {len(self.others)} modules have no label")


@contextmanager
def listening(model: Any, path: str | Path, everything: bool = False) -> Iterator[Coverage]:
    """Write what comes by while it is open. everything: modules without a label too, under their own
    names."""
    names = [name for name, _ in model.named_modules() if name]
    found, coverage = list(taps_of(names)), Coverage()
    known = {name for name, _ in found}
    coverage.labels = [tap.label for _, tap in found]
    coverage.others = [name for name in names if name not in known]
    with ExitStack() as stack:
        out = stack.enter_context(Recorder(path))

        def write(name: str, value: Any) -> None:
            if hasattr(value, "detach"):
                coverage.heard.append(out.put(name, array_of(value)))
        places = [(name, tap.after, tap.array) for name, tap in found]
        places += [(name, True, name) for name in coverage.others if everything]
        for name, after, label in places:
            stack.callback(hook(model.get_submodule(name), after, partial(write, label)).remove)
        yield coverage


def hook(module: Any, after: bool, see: Callable[[Any], Any]) -> Any:
    """A hook that shows `see` a module's output (`after`) or its first input, and goes on with what
    `see` gives back, unless that is None. `.remove()` takes it off."""
    def behind(module: Any, args: Any, output: Any) -> Any:
        first, *rest = output if isinstance(output, tuple) and output else (output,)
        put = see(first)
        return put if put is None or not isinstance(output, tuple) else (put, *rest)

    def before(module: Any, args: Any, named: Any) -> Any:
        name = None if args else next(iter(named), None)
        put = see(args[0] if args else named.get(name))
        if put is None:
            return None
        return ((put, *args[1:]), named) if args else (args, {**named, name: put})
    return (module.register_forward_hook(behind) if after
            else module.register_forward_pre_hook(before, with_kwargs=True))


def array_of(tensor: Any) -> np.ndarray:
    """A tensor as an array of its own; bfloat16, which NumPy lacks, as float32, which holds it
    exactly."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype).endswith("bfloat16") else tensor).numpy()
