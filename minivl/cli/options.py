"""Options that several commands take, in one place: which model runs and where, how its rows are kept.

    @app.command()
    @takes()
    def ask(images: Images, *, chosen: Any, keeping: Any, ...): ...

A command is declared with parameters that stand for a whole group, and gets what the group's options
say: `chosen` is a `given.Chosen`, `keeping` and `storage` are options of `VLM.chat` and `VLM.together`.
Here is also how an error is told. Read next: `words.py`, the commands; `given.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

Model = Annotated[str | None, typer.Option("--model", metavar="DIR", show_default=False, help=(
    "A checkpoint's folder, or a name on the hub (NAME, or NAME@REVISION). Without it: the embedded model."))]
Precision = Annotated[str, typer.Option(help="Of the activations: float64, float32, float16 or bfloat16.")]
Kernels = Annotated[str, typer.Option("--kernels", metavar="NAME", help=(
    "What runs the passes: auto, definition, jit (compiled), jit-int8 (compiled, activations of 8 bits), "
    "cuda (a GPU), or shapes (no numbers, for any size)."))]
Device = Annotated[str | None, typer.Option("--device", metavar="gpu|runner", show_default=False, help=(
    "Where the CUDA kernels run; implies --kernels cuda. runner: on the processor, slowly and exactly."))]
Memory = Annotated[str | None, typer.Option("--memory", metavar="SIZE", show_default=False, help=(
    "Run in so much memory, as in 8GiB: weights stay in their file, and are read as the run comes to them."))]
Parallel = Annotated[str | None, typer.Option("--parallel", metavar="tensor=N,pipeline=N", show_default=False, help=(
    "Cut the model into N shards times N stages; mpirun starts as many ranks, each with its share of the "
    "weights."))]
Cache = Annotated[str | None, typer.Option("--cache", metavar="TYPE", show_default=False, help=(
    "How the KV cache is kept: float32, bfloat16 or int8; as the activations without it."))]
Chunk = Annotated[int | None, typer.Option("--chunk", min=1, metavar="N", show_default=False, help=(
    "So many tokens of the prompt run at a time."))]
Context = Annotated[int, typer.Option("--context", min=2, metavar="N", help=(
    "The most tokens of prompt and answer together."))]

LOADING: dict[str, tuple[Any, Any]] = {"model": (Model, None), "precision": (Precision, "float32"),
                                       "kernels": (Kernels, "auto"), "device": (Device, None),
                                       "memory": (Memory, None), "parallel": (Parallel, None)}
KEEPING: dict[str, tuple[Any, Any]] = {"cache": (Cache, None), "chunk": (Chunk, None)}
GROUPS = {"chosen": LOADING, "keeping": {**KEEPING, "context": (Context, 32_768)}, "storage": KEEPING}


def takes(whole: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of its groups, in their place; one that it declares itself stays its own.
    In a job of several ranks it runs on each of them.

    whole: why a model that is cut over several ranks is refused, or None where it is not
    """
    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        taken = {name: [option for option in group if option not in own]
                 for name, group in GROUPS.items() if name in own}
        parameters = [one for name, parameter in own.items() for one in (
            [option_of(name, option) for option in taken[name]] if name in taken else [parameter])]

        def run(**given: Any) -> None:
            found = {name: {option: given.pop(option) for option in options}
                     for name, options in taken.items()}
            in_its_place(command, whole, found, given)
        shown: Any = run
        shown.__name__, shown.__doc__, shown.__module__ = (command.__name__, command.__doc__,
                                                           command.__module__)
        shown.__signature__ = inspect.Signature(parameters)
        shown.__annotations__ = {one.name: one.annotation for one in parameters}
        return run
    return decorate


def option_of(group: str, name: str) -> inspect.Parameter:
    """One option of a group as a parameter."""
    annotation, default = GROUPS[group][name]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def in_its_place(command: Callable[..., None], whole: str | None, found: dict[str, dict[str, Any]],
                 given: dict[str, Any]) -> None:
    """Run a command: alone, or as one of several ranks. Raises ArgumentError where it must be alone, and
    Exit with its exit code."""
    from ..door.errors import ArgumentError
    from .costs import in_a_job
    from .given import Chosen
    chosen = Chosen(**found.pop("chosen"))
    if chosen.parallel is not None and whole is not None:
        raise ArgumentError(f"--parallel {chosen.parallel} cuts a model over several ranks, and {whole}")
    code = 0
    with in_a_job(chosen.parallel, explained):
        try:
            command(chosen=chosen, **found, **given)
        except typer.Exit as done:
            code = done.exit_code
    if code:
        raise typer.Exit(code)


def explained(error: Exception) -> tuple[str, int]:
    """An error as one line, and the exit code."""
    from .console import clean
    if hasattr(error, "format_message"):                 # the command line's own: an unknown option, say
        context = getattr(error, "ctx", None)
        said = error.format_message()
        hint = " The question comes last, after the pictures." if "Missing argument 'IMAGE" in said else ""
        return clean(f"{said}{hint}  ({context.command_path if context else 'minivl'} --help)"), 2
    from ..checkpoint.weight import CheckpointError
    from ..door.contract import ContractError
    first, *more = str(error).splitlines() or [type(error).__name__]
    if more:
        everything = "`minivl inspect` of the folder" if isinstance(error, CheckpointError) else "--debug"
        shown = "; ".join(line.strip() for line in more[:3])
        first += f": {shown}" + (f" ... ({everything} shows all)" if len(more) > 3 else "")
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    if isinstance(error, ContractError):
        return clean(first), 1
    if isinstance(error, MemoryError):
        return f"out of memory: {clean(first)}; shrink the picture or take a smaller model", 1
    if isinstance(error, OSError) and error.filename:
        return clean(f"{error.filename}: {error.strerror}"), 2
    if isinstance(error, (ValueError, OSError, IndexError)):
        return clean(first + notes), 2
    return clean(f"{type(error).__name__}: {first}{notes}; this is a defect of minivl: --debug shows "
                 "where"), 1
