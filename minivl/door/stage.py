"""The one door. Every pass of the model is a plain function under a label, and everything else happens
here: looking at what it gives, stopping after it, resuming from it, replacing it. The model's own code
    knows nothing of it.

    @stage("order_by_window", "p d, m -> w d")
    def order_by_window(rows, window_index): ...

Labels come from nesting: a stage called inside a stage is `outer.inner`, and `@stage("blocks.{0}")`
takes the stage's first argument, so `vision.blocks.7.attend` needs no plumbing. A *leaf* enters no
other stage; only leaves are recorded. A label that returns at the root is a new run of it with a key
of its own (`decoder`, `decoder@1`, ...: the steps of decoding); inside one parent a repeated label is
a defect. Patterns are matched against labels and keys.

Three rules of the house make resuming and comparing exact:
  1. a stage is pure: arrays go in, an array or a tuple of arrays comes out;
  2. between stages stand only views (reshape, transpose, slice), tuples and loops: arithmetic is a
     kernel's;
  3. state (the KV cache) is changed by plain functions that always run, with whatever the door let
     through.

Arrays may be another machine's. The door asks them for `.shape` and `.dtype` only; watchers get the
host's copy. With no session open the door costs one context-variable read. Read next: `watch.py` (what
can be done with an output at the door), `contract.py` (the shapes), `model.py` (the passes in order).
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from . import contract as contracts
from . import watch
from .errors import ArgumentError
from .visit import Visit, Watcher

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)
Wrap = Callable[[Function], Function]
Patterns = str | Iterable[str]

_ABSENT = object()
_session: ContextVar[Session | None] = ContextVar("minivl session", default=None)


class Stopped(Exception):
    """Raised by `stop_after`: `.key` says where, `.output` is what came out there."""

    def __init__(self, key: str, output: Any):
        super().__init__(f"stopped after {key}")
        self.key, self.output = key, output


class Machine(Protocol):
    """What the door has to know of an interpreter (`kernels.Interpreter`): the functions that stand in
    for definitions, and the way of an array to its memory and back."""

    @property
    def functions(self) -> Mapping[Function, Function]: ...
    @property
    def to_device(self) -> Callable[[Any], Any]: ...
    @property
    def to_host(self) -> Callable[[Any], Any]: ...


# -------------------------------------------------------------------------------------- the decorators

def stage(label: str, contract: str, composite: bool = False) -> Callable[[F], F]:
    """Put a pass behind the door under `label` (see the module's text) with an executed shape contract.

    composite: the pass is made of other stages. It is always entered, because state may change inside.
    """
    def decorate(definition: F) -> F:
        return _door(definition, lambda session, door, args: session.enter(door, args), composite,
                     label=label, contract=contract)
    return decorate


def kernel(contract: str, flops: Callable[..., int] | None = None,
           composite: bool = False) -> Callable[[F], F]:
    """Put a kernel behind the door as `kernel.<name>`. The function is the definition; an interpreter
    may stand in for it. Kernels are never recorded.

    flops: takes the kernel's arguments and gives its floating-point operations
    composite: the definition is made of other kernels, and of nothing else that computes
    """
    def decorate(definition: F) -> F:
        return _door(definition, lambda session, door, args: session.run_kernel(door, args), composite,
                     label=f"kernel.{definition.__name__}", contract=contract,
                     flops=flops or (lambda *args: 0))
    return decorate


def _door(definition: F, enter: Callable[[Session, Function, tuple[Any, ...]], Any], composite: bool,
          **facts: Any) -> F:
    """The definition itself where no session is open; else whatever the session does with it."""
    @functools.wraps(definition)
    def door(*args: Any, **named: Any) -> Any:
        args = _positional(definition, args, named) if named else args
        session = _session.get()
        return definition(*args) if session is None else enter(session, door, args)
    definition.composite = composite                    # type: ignore[attr-defined]
    for name, value in {"definition": definition, "composite": composite, **facts}.items():
        setattr(door, name, value)
    return cast(F, door)


def _positional(definition: Function, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """Arguments in the order of the definition: what stands in for it need not use the same names."""
    bound = inspect.signature(definition).bind(*args, **named)
    bound.apply_defaults()                     # or `.args` would end before the first that was left out
    return bound.args


# ----------------------------------------------------------------------------------------- the session

@dataclass
class Frame:
    """A stage that is being run: its label, its key, and how often each label came up inside it."""
    label: str = ""
    key: str = ""
    seen: Counter[str] = field(default_factory=Counter)

    def child(self, name: str) -> Frame:
        times = self.seen[name]
        self.seen[name] += 1
        label = f"{self.label}.{name}" if self.label else name
        key = f"{self.key}.{name}" if self.key else name
        return Frame(label, f"{key}@{times}" if times else key)


class Session:
    """What is to happen at the door while it is open. Open it with `with`, once; it holds for this
    thread or task.

    print_after, record: patterns of leaves to print, or to keep in `.trace` (key -> output, in order
        of execution)
    dump: a folder that takes every leaf's output as .npy, with an index (read it back with
        `minivl.read_dump`)
    stop_after: label or key of a stage; raises Stopped there
    given: key -> output; a leaf found here is not run, nor is what replaces it
    put: key -> value, or None; the stage runs, `.made[key]` keeps what it made, and the run goes on
        with the value, cast to the type of what was made (with None: with what was made). A value of
        another shape: ContractError
    replace: {pattern: wrap}, wrap(original) -> function of the same arguments; the last one is
        outermost. What replaces a whole decoder layer takes over its call of the cache.
    shadow: the same, for leaves and kernels, but run beside the model's own pass on the same inputs,
        which it cannot write to; `.guilty` maps key -> relative error, `.failures` key -> what the
        candidate raised
    verify: check contracts in and out, finite floats, labels; outputs become read-only
    profile: `.profile` maps key -> watch.Cost(seconds, flops)
    before: called with the label of every stage that is about to run; what it raises ends the run. It
        changes nothing that a stage gives, and looks inside none
    quiet: say nothing about patterns and keys that met nothing

    `.met` maps every label and key that came by -> "leaf", "composite" or "kernel"; `.unfused` holds
    the labels under which an interpreter's fused function gave way to its definition, because this
    session looks inside. Inside another session this one adds to it: both look, replacements add up,
    each counts runs from its own start.
    """

    def __init__(self, *, print_after: Patterns = (), record: Patterns = (),
                 dump: str | Path | None = None,
                 stop_after: str | None = None, given: Mapping[str, Any] | None = None,
                 put: Mapping[str, Any] | None = None, replace: Mapping[str, Wrap] | None = None,
                 shadow: Mapping[str, Wrap] | None = None, tolerance: float = 1e-5, verify: bool = False,
                 profile: bool = False, quiet: bool = False, machine: Machine | None = None,
                 before: Callable[[str], object] | None = None):
        # what a session is asked for
        self.stop_after, self.verify, self.quiet, self.machine = stop_after, verify, quiet, machine
        self.before = before
        self.given, self.put = dict(given or {}), dict(put or {})
        if kernels := [key for key in (*self.given, *self.put) if key.startswith("kernel.")]:
            raise ArgumentError(f"given and put hold outputs of stages, got {kernels[0]}; put a "
                                f"function in the "
                                "place of a kernel with `replace`")
        self.replace = list((replace or {}).items())
        printed, kept = watch.patterns(print_after), watch.patterns(record)
        stops = [stop_after] if stop_after else []
        self._asked = [(kept, "leaf"), (printed, "leaf"), (stops, "leaf composite"),
                       (shadow or {}, "leaf kernel"),
                       (dict(self.replace), "leaf composite kernel")]
        self._asks_all = bool(dump or verify or profile)
        # what it finds
        self.trace: dict[str, Any] = {}
        self.made: dict[str, Any] = {}
        self.profile: dict[str, watch.Cost] = {}
        self.guilty: dict[str, float] = {}
        self.failures: dict[str, Exception] = {}
        self.met: dict[str, str] = {}
        self.unfused: set[str] = set()
        self.flops = 0
        # where it stands
        self.frames, self.chain = [Frame()], [self]
        self._memo: dict[tuple[str, tuple[str, ...], Function], Function] = {}
        self._token: Token[Session | None] | None = None
        self._in_kernel = self._alone = self._used = False
        self.watchers = self._watchers(kept, printed, dump, profile, shadow or {}, tolerance)
        self._own_watchers = len(self.watchers)

    def _watchers(self, kept: tuple[str, ...], printed: tuple[str, ...], dump: str | Path | None,
                  profile: bool,
                  shadow: Mapping[str, Wrap], tolerance: float) -> list[Watcher]:
        """The watchers that the options ask for."""
        found: list[Watcher] = [watch.recorder(kept, self.trace)] if kept else []
        found += [watch.printer(printed)] if printed else []
        found += [watch.dumper(Path(dump))] if dump is not None else []
        found += [watch.profiler(self.profile)] if profile else []
        if shadow:
            found.append(watch.shadower(functools.partial(_beside, shadow), self.guilty, self.failures,
                                        tolerance))
        return found

    # ---- opening and closing

    def __enter__(self) -> Session:
        if self._used:
            raise RuntimeError("a session is opened once; make a new one for each `with`")
        self._used = True
        outer = _session.get()
        # Inside another session this one adds to it; a candidate beside the run (`_beside`) stands
        # alone.
        if outer is not None and not self._alone:
            self.chain = [*outer.chain, self]
            self.machine = self.machine or outer.machine
            self.verify = self.verify or outer.verify
        self._token = _session.set(self)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        assert self._token is not None
        _session.reset(self._token)
        self._memo.clear()
        if kind is None and self.met and not self._alone and not self.quiet:
            self._warn_of_unmatched()

    def _warn_of_unmatched(self) -> None:
        # A trace is given whole, also to a run of its second half; a value is put where it is meant to
        # go.
        if self.given and not self.given.keys() & self.met.keys():
            warnings.warn(f"no stage was run under a key of `given`, such as {next(iter(self.given))}",
                          stacklevel=3)
        if lost := [key for key in self.put if self.met.get(key) not in ("leaf", "composite")]:
            warnings.warn(f"no stage was run under a key of `put`, such as {lost[0]}", stacklevel=3)
        unmatched = {pattern for patterns, kinds in self._asked for pattern in patterns
                     if not any(kind in kinds and _matches(pattern, name)
                                for name, kind in self.met.items())}
        if unmatched:
            warnings.warn(f"nothing was met by {', '.join(sorted(unmatched))}: record and print_after "
                          "look at leaf stages, shadow at leaves and kernels; `minivl passes` lists "
                          "the labels",
                          stacklevel=3)

    # ---- one stage, called by the door only

    def enter(self, door: Any, args: tuple[Any, ...]) -> Any:
        """Run one stage as the open sessions want it."""
        # 1. Where are we? Each session counts runs from its own opening, so each has a key of its own.
        name = door.label.format(*args) if "{" in door.label else door.label
        frames = [session.frames[-1].child(name) for session in self.chain]
        key, label = frames[0].key, frames[0].label
        for session in self.chain:
            if session.before is not None:
                session.before(label)
        try:
            # 2. What goes in: its sizes bind the letters of the contract for what comes out.
            sizes = self._check_before(key, door, args) if self.verify else {}
            # 3. The pass, or what somebody has of it. Seconds and operations are those of this run
            # alone.
            flops, start = self.flops, perf_counter()
            found = self._find_given(frames, door)                       # resuming: what was made before
            output = self._run(frames, door, args) if found is _ABSENT else found
            seconds = perf_counter() - start
            contracts.check_arrays(key, output)
            # 4. What the run goes on with, and what everybody sees from here on.
            output = self._go_on_with(frames, output)                  # putting: what somebody else made
            if self.verify:
                contracts.check_outputs(key, door.contract, self.to_host(output), sizes)
                output = _read_only(output)
        except Exception as error:
            # The innermost stage adds the note; the ones around it find it there.
            if not isinstance(error, Stopped) and not hasattr(error, "__notes__"):
                error.add_note(f"in stage {key}")
            raise
        # 5. Watchers look; then whoever asked to stop here stops, with its output seen by all.
        self._tell(frames, door, args, output, seconds, self.flops - flops)
        for session, frame in zip(self.chain, frames, strict=True):
            if session.stop_after in (frame.key, label):
                raise Stopped(frame.key, self.to_host(output))
        return output

    def _check_before(self, key: str, door: Any, args: tuple[Any, ...]) -> dict[str, int]:
        # `outer@1` is a new run at the root; `outer.inner@1` is one label for two passes of one parent
        parent, _, last = key.rpartition(".")
        if "@" in last and self.chain[0].frames[-1].key:
            raise contracts.ContractError(f"{key}: label comes twice inside {parent}")
        return contracts.check_inputs(key, door.contract, args)

    def _find_given(self, frames: list[Frame], door: Any) -> Any:
        """The output that is given for this stage, by the innermost session that has one."""
        for session, frame in zip(reversed(self.chain), reversed(frames), strict=True):
            if frame.key in session.given:
                if door.composite:               # the KV cache would stay empty: decoding would go wrong
                    raise ArgumentError(f"given holds {frame.key}, which is made of other stages and "
                                        "may change the cache; give its leaves, or put a function in "
                                        "its place with `replace`")
                return self.to_device(session.given[frame.key])
        return _ABSENT

    def _run(self, frames: list[Frame], door: Any, args: tuple[Any, ...]) -> Any:
        for session, frame in zip(self.chain, frames, strict=True):
            session.frames.append(frame)
        try:                                   # frames are popped whatever happens: the door stays clean
            return self.function(frames[0].label, tuple(frame.key for frame in frames),
                                 door.definition)(*args)
        finally:
            for session in self.chain:
                session.frames.pop()

    def _go_on_with(self, frames: list[Frame], output: Any) -> Any:
        """What was made, kept for every session that puts something here; then what the innermost one
        puts."""
        putting = [(session, frame.key) for session, frame in zip(self.chain, frames, strict=True)
                   if frame.key in session.put]
        if not putting:
            return output
        made = self.to_host(output)                  # one copy, which all of them keep
        for session, key in putting:               # outermost first, so that the innermost value is last
            session.made[key] = made
            if session.put[key] is not None:
                output = self.to_device(contracts.in_place_of(key, made, session.put[key]))
        return output

    def _tell(self, frames: list[Frame], door: Any, args: tuple[Any, ...], output: Any, seconds: float,
              flops: int) -> None:
        """Note what was met, and let every session's watchers look at a leaf."""
        leaf = not frames[-1].seen                        # it entered no other stage
        label = frames[0].label
        # One way from the machine's memory to the host's for all watchers, and none when nobody looks.
        seen = self.to_host(output) if leaf and any(session.watchers for session in self.chain) else None
        for session, frame in zip(self.chain, frames, strict=True):
            session.met[frame.key] = session.met[label] = "leaf" if leaf else "composite"
            visit = Visit(frame.key, label, door, args, output, seen, seconds, flops)
            for look in session.watchers if leaf else ():
                look(visit)

    # ---- one kernel, called by the door only

    def run_kernel(self, door: Any, args: tuple[Any, ...]) -> Any:
        """Run one kernel: the interpreter's, under the replacements that ask for it."""
        for session in self.chain:
            session.met[door.label] = "kernel"
        if self.verify:
            sizes = contracts.check_inputs(door.label, door.contract, args)
        if not self._in_kernel:                  # a kernel that is made of others counts for all of them
            self.flops += door.flops(*args)
        outer, self._in_kernel = self._in_kernel, True
        try:
            output = self.function(door.label, (door.label,) * len(self.chain), door.definition)(*args)
        finally:
            self._in_kernel = outer
        if self.verify:
            contracts.check_outputs(door.label, door.contract, self.to_host(output), sizes)
        return output

    # ---- what runs under a label, and on which machine

    def function(self, label: str, keys: tuple[str, ...], definition: Function) -> Function:
        """What runs under `label`: the interpreter's function or the definition, in the matching wraps
        of every open session, each of which knows the run by a key of its own."""
        # Looked up once a place: a tower of 32 blocks asks for the same few functions thousands of
        # times.
        found = self._memo.get((label, keys, definition))
        if found is None:
            found = self._innermost(label, keys, definition)
            for session, key in zip(self.chain, keys, strict=True):
                found = _wrapped(found, session.replace, label, key)
            self._memo[label, keys, definition] = found
        return found

    def _innermost(self, label: str, keys: tuple[str, ...], definition: Function) -> Function:
        """The interpreter's function; the definition where it has none, or where a session looks
        inside."""
        fast = self.machine.functions.get(definition) if self.machine is not None else None
        if fast is None:
            return definition
        composite = getattr(definition, "composite", False)
        if label.startswith("kernel."):                  # one that is not made of others has no inside
            looking = [session for session in self.chain if composite
                       and session._asks_for_kernels(label)]
        else:                                            # a leaf's inside are kernels, and nothing else
            looking = [session for session, key in zip(self.chain, keys, strict=True)
                       if session._asks_for_kernels(label)
                       or (composite and session._asks_inside(label, key))]
        for session in looking:                      # written into a trace's manifest
            session.unfused.add(label)
        return definition if looking else fast

    def _asks_for_kernels(self, label: str) -> bool:
        """Whether this session acts on kernels, which may run inside whatever stands under `label`."""
        return any(_may_meet(pattern, "kernel.") for patterns, kinds in self._asked if "kernel" in kinds
                   for pattern in patterns if pattern != label)

    def _asks_inside(self, label: str, key: str) -> bool:
        """Whether this session asks for a stage that may lie inside the one that is about to run."""
        # Dumping, verifying and costing see every leaf, and so does a watcher of somebody's own.
        if self._asks_all or len(self.watchers) > self._own_watchers:
            return True
        asked = [pattern for patterns, _ in self._asked for pattern in patterns]
        return any(_may_meet(pattern, f"{name}.") for pattern in [*asked, *self.given, *self.put]
                   for name in (label, key))

    def to_host(self, value: Any) -> Any:
        """An output as the host has it: NumPy arrays that nothing writes to any more."""
        return value if self.machine is None else _each(self.machine.to_host, value)

    def unspoilt(self, value: Any) -> Any:
        """An argument for a candidate that must not write into the run: a view that cannot be written
        to, and a copy where the machine's arrays know no such views."""
        if isinstance(value, np.ndarray | tuple) or not (hasattr(value, "shape")
                                                         and hasattr(value, "dtype")):
            return _read_only(value)
        return self.to_device(np.array(self.to_host(value)))

    def to_device(self, value: Any) -> Any:
        """An output as the machine has it that runs the model."""
        return value if self.machine is None else _each(self.machine.to_device, value)


def _beside(table: Mapping[str, Wrap], visit: Visit) -> Any:
    """What a candidate gives for a leaf that was just run: on the same inputs, unseen by any watcher,
    on the host."""
    session = _session.get()
    assert session is not None
    rows = [row for one in session.chain for row in one.replace] + list(table.items())
    other = Session(machine=session.machine, replace=dict(rows))  # what it asks for; below in its order
    other.replace = rows                                           # a pattern may be there several times
    other._alone, other.frames = True, [Frame(visit.label, visit.key)]
    with other:
        function = other.function(visit.label, (visit.key,), visit.door.definition)
        return other.to_host(function(*(session.unspoilt(arg) for arg in visit.args)))


# ------------------------------------------------------------------------------- ways to open the door

def session(**options: Any) -> Session:
    """Open the door: `with minivl.session(record="vision.*") as s: vlm.ask(...)`, then `s.trace`. See
    `Session`."""
    return Session(**options)


def using(table: Mapping[str, Function]) -> Session:
    """Run the model with your functions in place of its passes: `with
    minivl.using({"vision.merge_2x2": mine}): ...`.

    Keys are labels or patterns, of stages or of kernels (`kernel.gelu`); values take the stage's own
    arguments. To call the model's own pass inside yours, call its `.definition`
    (`windows.schedule.definition(grids, config)`): the pass itself would go through the door a second
    time.
    """
    return Session(replace=functions(table))


def functions(table: Mapping[str, Function]) -> dict[str, Wrap]:
    """Functions of the stages' own arguments as the wraps that `replace` and `shadow` take."""
    return {pattern: functools.partial(_constant, function) for pattern, function in table.items()}


def running(machine: Machine) -> AbstractContextManager[Session | None]:
    """What each public call of the model enters, so that its interpreter's functions run under any
    open session. The definitions need none: without a session a stage is called as it stands."""
    session = _session.get()
    plain = not machine.functions and machine.to_host is machine.to_device      # both give what they get
    if plain and (session is None or session.machine is None):
        return nullcontext()
    return Session(machine=machine)                    # over whatever machine the code around it runs on


def altered() -> bool:
    """Whether an open session changes what stages give: what is made meanwhile is not the model's own."""
    session = _session.get()
    return session is not None and any(one.replace or one.put or one.given for one in session.chain)


@contextmanager
def unwatched() -> Iterator[None]:
    """Run stages as plain functions, unseen by any open session: for tools that borrow a pass."""
    token = _session.set(None)
    try:
        yield
    finally:
        _session.reset(token)


def until(trace: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The trace up to and including `key`: `session(given=until(trace, key))` resumes there.

    Raises KeyError when `key` is not a leaf of the trace.
    """
    keys = list(trace)
    if key not in trace:
        raise KeyError(f"{key!r} is not in the trace; its {len(keys)} leaves start with {keys[:3]}")
    return {k: trace[k] for k in keys[: keys.index(key) + 1]}


# ----------------------------------------------------------------------------------------- small parts

def _constant(function: Function, original: Function) -> Function:
    return function


def _wrapped(function: Function, replace: list[tuple[str, Wrap]], label: str, key: str) -> Function:
    for pattern, wrap in replace:
        if _matches(pattern, label) or _matches(pattern, key):
            function = wrap(function)
    return function


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)


def _may_meet(pattern: str, prefix: str) -> bool:
    """Whether a pattern may match a name that begins with `prefix`: told from what stands before its
    first wildcard, so that it says yes too often rather than too seldom."""
    fixed = min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=len(pattern))
    return pattern.startswith(prefix) or (fixed < len(pattern) and prefix.startswith(pattern[:fixed]))


def _each(way: Callable[[Any], Any], value: Any) -> Any:
    """An array, or each array of a tuple, taken to another machine."""
    return tuple(map(way, value)) if isinstance(value, tuple) else way(value)


def _read_only(value: Any) -> Any:
    """The same array, or tuple of arrays, as views that cannot be written to; anything else as it is."""
    if isinstance(value, tuple):                     # a NamedTuple of weights is handed on as it is
        return type(value)(map(_read_only, value)) if type(value) is tuple else value
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value
