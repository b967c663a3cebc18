"""The one door. Every pass of the model is a plain function under a label, and whoever wants to look at it, stop
after it, resume from it, replace it or check it does so here. The model's own code knows nothing of any of this.

    @stage("order_by_window", "p d, m -> w d")
    def order_by_window(rows, window_index): ...

Labels come from nesting: a stage called inside a stage is `outer.inner`, and `@stage("blocks.{0}")` takes the stage's
first argument, so `vision.blocks.7.attend` needs no plumbing. A *leaf* enters no other stage; only leaves are
recorded. A label that returns at the root is a new run of it with a key of its own (`decoder`, `decoder@1`, ...: the
steps of decoding); inside one parent a repeated label is a defect. Patterns are matched against labels and keys.

Three rules of the house make resuming and comparing exact:
  1. a stage is pure: arrays go in, an array or a tuple of arrays comes out;
  2. between stages stand only views (reshape, transpose, slice), tuples and loops: arithmetic is a kernel's;
  3. state (the KV cache) is changed by plain functions that always run, with whatever the door let through.

With no session open the door costs one context-variable read. Read next: `watch.py` (what can be done with an output
at the door), `contract.py` (the shapes), `model.py` (the passes in order).
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from . import contract as contracts
from . import watch

F = TypeVar("F", bound=Callable)
Wrap = Callable[[Callable], Callable]
Patterns = str | Iterable[str]

_session: ContextVar[Session | None] = ContextVar("minivl session", default=None)


class Stopped(Exception):
    """Raised by `stop_after`: `.key` says where, `.output` is what came out there."""

    def __init__(self, key: str, output: Any):
        super().__init__(f"stopped after {key}")
        self.key, self.output = key, output


def stage(label: str, contract: str) -> Callable[[F], F]:
    """Put a pass behind the door under `label` (see the module's text) with an executed shape contract."""
    def decorate(definition: F) -> F:
        @functools.wraps(definition)
        def door(*args):
            session = _session.get()
            return definition(*args) if session is None else session.enter(door, args)
        return _furnish(door, definition, label=label, contract=contract)
    return decorate


def kernel(contract: str, flops: Callable[..., int] | None = None) -> Callable[[F], F]:
    """Put a kernel behind the door as `kernel.<name>`. The function is the definition; an interpreter may stand in
    for it. Kernels are never recorded. `flops` takes the kernel's arguments and gives its floating-point operations.
    """
    def decorate(definition: F) -> F:
        @functools.wraps(definition)
        def door(*args):
            session = _session.get()
            return definition(*args) if session is None else session.run_kernel(door, args)
        return _furnish(door, definition, label=f"kernel.{definition.__name__}", contract=contract,
                        flops=flops or (lambda *args: 0))
    return decorate


def _furnish(door, definition, **facts):
    door.definition = definition
    for name, value in facts.items():
        setattr(door, name, value)
    return door


@dataclass
class Frame:
    """A stage that is being run: its label, its key, and how often each label came up inside it."""
    label: str = ""
    key: str = ""
    seen: Counter = field(default_factory=Counter)

    def child(self, name: str) -> Frame:
        times = self.seen[name]
        self.seen[name] += 1
        label = f"{self.label}.{name}" if self.label else name
        key = f"{self.key}.{name}" if self.key else name
        return Frame(label, f"{key}@{times}" if times else key)


@dataclass(frozen=True)
class Visit:
    """One run of a leaf, as the watchers see it: the stage's door, what went in and what came out, and its cost."""
    key: str
    label: str
    door: Any
    args: tuple
    output: Any
    seconds: float
    flops: int


class Session:
    """What is to happen at the door while it is open; open it with `with`. Inside another session it adds to that one.

    print_after, record: patterns of leaves to print or to keep in `.trace` (key -> output, in order of execution)
    dump: a folder that takes every leaf's output as .npy, with an index (read it back with `minivl.read_dump`)
    stop_after: label or key; raises Stopped there        given: key -> output; a leaf found here is not run
    replace: {pattern: wrap}, wrap(original) -> function of the same arguments; the last one is outermost
    shadow: the same, but run beside the model's own pass on the same inputs; `.guilty` maps key -> relative error
    verify: check contracts in and out, finite floats, labels; outputs become read-only
    profile: `.profile` maps key -> watch.Cost(seconds, flops)
    `.met` holds every label and key that came by, those of composites and kernels too
    """

    def __init__(self, *, print_after: Patterns = (), record: Patterns = (), dump: str | Path | None = None,
                 stop_after: str | None = None, given: Mapping[str, Any] | None = None,
                 replace: Mapping[str, Wrap] | None = None, shadow: Mapping[str, Wrap] | None = None,
                 tolerance: float = 1e-5, verify: bool = False, profile: bool = False,
                 interpreter: Mapping[str, Callable] | None = None):
        self.trace: dict[str, Any] = {}
        self.profile: dict[str, watch.Cost] = {}
        self.guilty: dict[str, float] = {}
        self.stop_after, self.verify, self.flops = stop_after, verify, 0
        self.given, self.interpreter = dict(given or {}), dict(interpreter or {})
        self.replace = list((replace or {}).items())
        self.frames = [Frame()]
        self.watchers: list[watch.Watcher] = []
        if record:
            self.watchers.append(watch.recorder(watch.patterns(record), self.trace))
        if print_after:
            self.watchers.append(watch.printer(watch.patterns(print_after)))
        if dump is not None:
            self.watchers.append(watch.dumper(Path(dump)))
        if profile:
            self.watchers.append(watch.profiler(self.profile))
        if shadow:
            self.watchers.append(watch.shadower(shadow, self.guilty, tolerance))
        self._asked = {*dict(self.replace), *watch.patterns(record), *watch.patterns(print_after), *dict(shadow or {}),
                       *([stop_after] if stop_after else []), *self.given}
        self.met: set[str] = set()
        self._memo: dict[tuple[str, str, Callable], Callable] = {}
        self._token: Token | None = None
        self._alone = self._in_kernel = False

    def __enter__(self) -> Session:
        if self._token is not None:
            raise RuntimeError("this session is open already; make a new one for each `with`")
        outer = _session.get()
        if outer is not None and not self._alone:
            self._lay_over(outer)
        self._token = _session.set(self)
        return self

    def __exit__(self, kind, error, traceback) -> None:
        assert self._token is not None
        _session.reset(self._token)
        self._token = None
        self._memo.clear()
        if kind is None and not self._alone and self.frames[0].seen:
            self._warn_of_unmatched()

    def _lay_over(self, outer: Session) -> None:
        self.frames, self.met = outer.frames, outer.met
        self.interpreter = {**outer.interpreter, **self.interpreter}
        self.replace = outer.replace + self.replace
        self.given = {**outer.given, **self.given}
        self.watchers = outer.watchers + self.watchers
        self.verify = self.verify or outer.verify
        self.stop_after = self.stop_after or outer.stop_after

    def _warn_of_unmatched(self) -> None:
        unmatched = sorted(p for p in self._asked if not any(_matches(p, name) for name in self.met))
        if unmatched:
            warnings.warn(f"no stage was called {', '.join(unmatched)}; `minivl passes` lists the labels", stacklevel=3)

    def enter(self, door: Any, args: tuple) -> Any:
        """Run one stage as this session wants it; called by the door only."""
        parent = self.frames[-1]
        frame = parent.child(door.label.format(*args))
        self.met.update((frame.key, frame.label))
        if self.verify:
            if "@" in frame.key.rpartition(".")[2] and parent.key:
                raise contracts.ContractError(f"{frame.key}: label comes twice inside {parent.key}")
            sizes = contracts.check_inputs(frame.key, door.contract, args)
        flops, start = self.flops, perf_counter()
        output = self.given[frame.key] if frame.key in self.given else self._run(frame, door, args)
        seconds = perf_counter() - start
        if self.verify:
            contracts.check_outputs(frame.key, door.contract, output, sizes)
            _freeze(output)
        if not frame.seen:                                # a leaf: it entered no other stage
            visit = Visit(frame.key, frame.label, door, args, output, seconds, self.flops - flops)
            for look in self.watchers:
                look(self, visit)
        if self.stop_after in (frame.key, frame.label):
            raise Stopped(frame.key, output)
        return output

    def _run(self, frame: Frame, door: Any, args: tuple) -> Any:
        self.frames.append(frame)
        try:
            return self.function(frame.label, frame.key, door.definition)(*args)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            if not hasattr(error, "__notes__"):
                error.add_note(f"in stage {frame.key}")
            raise
        finally:
            self.frames.pop()

    def run_kernel(self, door: Any, args: tuple) -> Any:
        """Run one kernel: the interpreter's, under the replacements that ask for it; called by the door only."""
        self.met.add(door.label)
        if self.verify:
            sizes = contracts.check_inputs(door.label, door.contract, args)
        if not self._in_kernel:                           # a kernel that is made of others counts for all of them
            self.flops += door.flops(*args)
        outer, self._in_kernel = self._in_kernel, True
        try:
            output = self.function(door.label, door.label, door.definition)(*args)
        finally:
            self._in_kernel = outer
        if self.verify:
            contracts.check_outputs(door.label, door.contract, output, sizes)
        return output

    def function(self, label: str, key: str, definition: Callable) -> Callable:
        """What runs under `label`: the interpreter's function or the definition, wrapped by each match in `replace`."""
        found = self._memo.get((label, key, definition))
        if found is None:
            found = self.interpreter.get(label, definition)
            for pattern, wrap in self.replace:
                if _matches(pattern, label) or _matches(pattern, key):
                    found = wrap(found)
            self._memo[label, key, definition] = found
        return found

    def beside(self, table: Mapping[str, Wrap], path: str) -> Session:
        """A session of its own at the same place in the model, for running a candidate without being watched."""
        other = Session(replace={**dict(self.replace), **table}, interpreter=self.interpreter)
        other.frames, other._alone = [Frame(path, path)], True
        return other


def session(**options: Any) -> Session:
    """Open the door: `with minivl.session(record="vision.*") as s: vlm.ask(...)`, then `s.trace`. See `Session`."""
    return Session(**options)


def using(table: Mapping[str, Callable]) -> Session:
    """Run the model with your functions in place of its passes: `with minivl.using({"vision.merge_2x2": mine}): ...`.

    Keys are labels or patterns, of stages or of kernels (`kernel.gelu`); values take the stage's own arguments. To call
    the model's own pass inside yours, call its `.definition` (`windows.schedule.definition(grids, config)`): the pass
    itself would go through the door a second time.
    """
    return Session(replace={pattern: functools.partial(_constant, function) for pattern, function in table.items()})


def running(interpreter: Mapping[str, Callable]) -> Session:
    """What each public call of the model enters, so that its interpreter's kernels run under any open session."""
    return Session(interpreter=interpreter)


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


def _constant(function: Callable, original: Callable) -> Callable:
    return function


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)


def _freeze(value: Any) -> None:
    for array in contracts.outputs(value):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
