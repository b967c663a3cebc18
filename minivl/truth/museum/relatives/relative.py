"""What a relative of an exhibit is: the same mistake with other parameters, or in another pass.

An exhibit is one incident with its own numbers; somebody else's port makes the same mistake with another
type, minus instead of plus one, in other blocks. A relative says in words in what it differs, and is
planted as an exhibit is: `session(replace=one.table())`.

    relative("norm-plus-one", "one less, in the merger alone", {"vision.merge_2x2": wrap})

Read next: `__init__.py`, which lists them for a model; `numbers.py` ... `order.py`, the families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ....door.stage import Wrap, session
from ..fault import FAULTS, Fault

TOWER, MERGER, LAYERS, LAST = ("vision.blocks.*", "vision.merge_2x2", "decoder.layers.*",
                               "decoder.normalise")


@dataclass(frozen=True)
class Relative(Fault):
    """An exhibit with other parameters. `name`, `incidents` and story are its exhibit's; `says`: in what
    it differs; `wraps`: what is planted."""
    says: str
    wraps: Mapping[str, Wrap]

    def table(self) -> dict[str, Wrap]:
        return dict(self.wraps)


def relative(kin: str, says: str, wraps: Mapping[str, Wrap], leaves: Iterable[str] = ()) -> Relative:
    """A relative of an exhibit. leaves: the passes that it spoils; without them those of `wraps`."""
    exhibit = FAULTS[kin]
    kept = {field.name: getattr(exhibit, field.name) for field in fields(Fault)}
    return Relative(**{**kept, "leaves": tuple(leaves) or tuple(wraps), "label": next(iter(wraps))},
                    says=says, wraps=wraps)


def instead(wrong: Callable, **more: Any) -> Wrap:
    """A function that takes `right` and the arguments of the pass, as a wrap."""
    return lambda right: lambda *args: wrong(right, *args, **more)


def within(leaves: Iterable[str], kernel: str, wrap: Wrap) -> dict[str, Wrap]:
    """A kernel that is wrong inside these passes alone."""
    def opened(right: Callable) -> Callable:
        def run(*args: Any) -> Any:
            with session(replace={f"kernel.{kernel}": wrap}, quiet=True):
                return right(*args)
        return run
    return dict.fromkeys(leaves, opened)
