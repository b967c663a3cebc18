"""minivl: Qwen2.5-VL as explicit array code.

    import minivl
    vlm = minivl.load()
    vlm.ask("picture.png", "What is this?")
    with minivl.session(print_after="vision.*"):
        vlm.ask("picture.png", "What is this?")

Start reading at `model.py`: the whole forward pass on one screen.
"""

from importlib import import_module
from typing import Any

from .api import VLM, convert, load
from .door.contract import AXES, ContractError
from .door.errors import Error
from .door.stage import Session, Stopped, session, until, using
from .door.version import VERSION
from .door.watch import read_dump
from .run.inputs import Inputs
from .run.prompt_cache import PromptCache
from .run.provenance import provenance, where_pixel, where_token
from .teach.check import check

__version__ = VERSION

__all__ = ["AXES", "VLM", "ContractError", "Error", "Inputs", "PromptCache", "Session", "Stopped", "check",
           "convert", "explorer", "faults", "load",
           "plot", "provenance", "read_dump", "session", "until", "using", "where_pixel", "where_token"]

# when they are asked for
LATER = {"explorer": "show.explorer", "faults": "truth.museum", "plot": "show.plot"}


def __getattr__(name: str) -> Any:
    if name in LATER:
        return import_module(f".{LATER[name]}", __name__)
    raise AttributeError(f"module 'minivl' has no attribute {name!r}")
