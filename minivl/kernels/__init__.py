"""Interpreters of the kernels by name. Each is a module whose functions stand in for the definitions of their names."""

from collections.abc import Callable, Mapping

from . import definition, shapes

NAMES = tuple(name for name, value in vars(definition).items() if getattr(value, "label", "") == f"kernel.{name}")


def table(module) -> dict[str, Callable]:
    """A module's functions under the labels of the kernels that they stand in for."""
    return {f"kernel.{name}": getattr(module, name) for name in NAMES if hasattr(module, name)}


INTERPRETERS: dict[str, Mapping[str, Callable]] = {"definition": {}, "shapes": table(shapes)}
