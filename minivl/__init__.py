"""minivl: Qwen2.5-VL as explicit array code.

    import minivl
    vlm = minivl.load()
    vlm.ask("picture.png", "What is this?")
    with minivl.session(print_after="vision.*"):
        vlm.ask("picture.png", "What is this?")

Start reading at `model.py`: the whole forward pass on one screen.
"""

from .api import VLM, load
from .check import check
from .contract import AXES, ContractError
from .inputs import Inputs
from .provenance import provenance, where_pixel, where_token
from .stage import Session, Stopped, session, until, using
from .watch import read_dump

__version__ = "0.1.0"

__all__ = ["AXES", "VLM", "ContractError", "Inputs", "Session", "Stopped", "check", "load", "provenance", "read_dump",
           "session", "until", "using", "where_pixel", "where_token"]
