"""What `minivl serve` does: check what it is given, load the model, listen until it is stopped.

Read next: `app.py`; `listening.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...api import VLM
from ...door.errors import ArgumentError, MissingExtra
from ..console import note
from ..given import Chosen, open_model, say_which
from .limits import ServerLimits
from .places import AllowedPlaces

KEY = "MINIVL_SERVER_KEY"                # of the environment: a command line can be read by everybody
SHORTEST = 16                            # characters of a key where others reach the server
EMBEDDED = "minivl-tiny"


def serve(chosen: Chosen, name: str | None, host: str, port: int,
          places: tuple[Sequence[str], Sequence[Path]],
          names: Sequence[str], limits: ServerLimits, storage: Mapping[str, Any]) -> None:
    """Serve until Ctrl-C. storage: options of `VLM.together`. Raises ArgumentError or OSError for whatever
    is wrong with the input, before the model is loaded, and MissingExtra without the packages of the extra
    `serve`."""
    try:
        from .listening import is_local, listen
    except ImportError as error:
        raise MissingExtra(f"minivl serve needs the packages starlette and uvicorn ({error.name} is "
                           "missing): "
                           'pip install "minivl[serve]"') from None
    key, allowed = os.environ.get(KEY, ""), AllowedPlaces.of(*places)
    if not is_local(host) and len(key) < SHORTEST:
        raise ArgumentError(f"--host {host} lets other machines in, and they need a key: set {KEY} to "
                            f"at least {SHORTEST} characters that nobody can guess, or serve 127.0.0.1 "
                            "alone")
    if not key.isascii():
        raise ArgumentError(f"{KEY} must be of ASCII characters, as a header of HTTP holds them")
    if (one := limits.prompt_tokens + limits.new_tokens) > limits.rows:
        raise ArgumentError(f"--max-tokens {limits.rows:,} is less than one request may have, {one:,}: give "
                            "as many, or lower --max-prompt-tokens and --max-new-tokens")
    with listen(host, port) as opened, open_model(chosen) as vlm:
        say_which(chosen.model)
        where = f"[{host}]" if ":" in host else host
        served = name or (Path(chosen.model).name if chosen.model else EMBEDDED)
        note(f"http://{where}:{opened.getsockname()[1]}/v1 answers, as model {served}; Ctrl-C stops it"
             + ("" if key else "; without a key, for programs on this machine"))
        run(vlm, served, opened, limits, allowed, key, names, storage)
    note("stopped")


def run(vlm: VLM, name: str, opened: object, limits: ServerLimits, places: AllowedPlaces, key: str,
        names: Sequence[str], storage: Mapping[str, Any]) -> None:
    """Answer on a socket until the server is stopped."""
    from .app import application
    from .listening import Listening
    from .worker import Worker
    worker = Worker(vlm, limits, **storage)
    server = Listening(application(vlm, name, worker, limits, places, key, names), limits, worker.stop)
    server.run(sockets=[opened])                                             # type: ignore[list-item]
    worker.join(limits.reading)
