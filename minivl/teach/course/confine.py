"""What the process of a submission may not do: take much memory, time or output, write, start programs,
use the network, hide code.

Three layers, each for what the one before lets through. Limits of the system (`limit`) end what grows or
runs on. The kernel's Landlock (`lock`), which needs no rights, refuses every write outside one folder,
every file of this package and of the teacher, every program, TCP and signals to other processes,
whatever Python is made to do. Python's audit hook (`watch`) says who tried what, and refuses what the
kernel knows nothing of: frames, the collector's lists, code that is made of text (`hidden.py`).

Runs inside that process, before the submission does. What the kernel refuses cannot be undone there. The
audit hook is Python beside the submission's Python: who prepares for it can get around it. Read next:
`child.py`; docs/teaching/grading.md says what remains possible.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from os import fsdecode
from os.path import realpath
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from .hidden import EVENTS, Hidden

RULES, ADD_RULE, RESTRICT, NO_NEW_PRIVILEGES = 444, 445, 446, 38  # system calls, and one of prctl
EXECUTE, WRITES = 1, sum(1 << n for n in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
REFER, TRUNCATE, TCP, OTHERS = 1 << 13, 1 << 14, 3, 3

PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn",
            "os.spawn", "os.startfile", "pty.spawn", "os.kill", "os.killpg", "signal.pthread_kill")
FRAMES = ("sys._current_frames", "sys._current_exceptions", "gc.get_objects", "gc.get_referrers",
          "gc.get_referents")
TRACING = ("sys.settrace", "sys.setprofile", "sys.addaudithook")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link",
           "os.symlink", "os.truncate", "os.utime", "os.setxattr", "os.removexattr")
LIBRARIES = ("/usr", "/lib", "/lib64", "/dev/null", "/dev/urandom")
FOR_LOADING = ("/etc/ld.so.cache",)                       # read by the system's loader, not by Python
LOOKERS = ("inspect.py", "traceback.py")                  # modules through which frames are usually read


def limit(memory: int, seconds: int, size: int) -> None:
    """Limits of the system. memory: bytes of addresses; seconds: of a processor; size: of any file."""
    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, size),
                       (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64),
                       (resource.RLIMIT_NPROC, 0)):
        resource.setrlimit(what, (most, most))
    # first a signal that says why, then the end
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))


def readable(folder: str) -> list[str]:
    """Where a submission may read: its folder, Python's, the libraries'. It may write to the first."""
    sites = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return [folder, *dict.fromkeys(map(realpath, [sys.prefix, sys.base_prefix, *sites])), *LIBRARIES]


def lock(folder: str, package: str) -> bool:
    """Let the kernel refuse writes outside `folder`, reads of the package and of what is no library,
    programs, TCP, signals. False without Landlock."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(RULES, None, 0, 1)
    if version < 1:
        return False
    writes = WRITES | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    handled = struct.pack("=QQQ", writes | EXECUTE | READ_FILE | READ_FOLDER, TCP,
                          OTHERS)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(RULES, handled, len(handled), 0)

    def allow(path: str, rights: int) -> None:
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return                                        # not there, on this system
        rights &= -1 if Path(path).is_dir() else READ_FILE
        libc.syscall(ADD_RULE, rules, 1, struct.pack("=Qi", rights, beneath), 0)
        os.close(beneath)
    allow(folder, writes | READ_FILE | READ_FOLDER)
    for place in (*readable(folder)[1:], *FOR_LOADING):
        allow(place, READ_FOLDER)
        for path in _without(place, package):
            allow(path, READ_FILE)
    locked = libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and libc.syscall(RESTRICT, rules, 0) == 0
    os.close(rules)
    return locked


def _without(place: str, package: str) -> list[str]:
    """Paths that together are `place` without the package; the place itself when that is elsewhere."""
    if not _inside(package, place):
        return [place]
    if realpath(place) == realpath(package):
        return []
    return [path for inner in sorted(Path(place).iterdir()) for path in _without(str(inner), package)]


def watch(folder: str, package: str, code: Iterable[CodeType], classes: set[tuple[str, str]],
          said: Callable[[str], None]) -> None:
    """Refuse, from now on, what a submission has no business with, and tell `said` what.

    folder: where it may write. package: where minivl is, which is not to be read; other files may be
    where Python and the system's libraries are. code: the statements of its cells. classes: module and
    name of the types that its inputs are pickled from.
    """
    places = readable(folder)

    def trusted(path: Any) -> bool:
        own = not isinstance(path, str | bytes) or _inside(path, folder) or _inside(path, package)
        return not own and any(_inside(path, place) for place in places[1:])
    hidden = Hidden(code, classes, trusted)

    def hook(event: str, args: tuple) -> None:
        if event.startswith(EVENTS):
            found = "hidden code" if hidden.refuses(event, args, _caller()) else ""
        else:
            found = _forbidden(event, args, places, package)
        if found:
            said(found)
            raise PermissionError(f"not in graded work: {found} ({event})")
    sys.addaudithook(hook)


def _forbidden(event: str, args: tuple, places: Sequence[str], package: str) -> str:
    """What a forbidden event is; empty when it is allowed. The first of `places` may be written to."""
    if event == "open":
        return _opening(args, places, package)
    if event.startswith("socket."):
        return "" if event == "socket.__new__" else "network"
    if event.startswith("ctypes."):
        return "native code"
    if event.startswith(PROGRAMS):
        return "programs"
    if event in FRAMES or (event == "sys._getframe" and _asked_by_student()):
        return "frames"
    if event in TRACING or event.startswith("resource."):
        return "tracing"
    if event in CHANGES:
        outside = [path for path in args if isinstance(path, str | bytes)
                   and not _inside(path, places[0])]
        return _place("writing", outside[0], package) if outside else ""
    return ""


def _opening(args: tuple, places: Sequence[str], package: str) -> str:
    path, _, flags = args
    if not isinstance(path, str | bytes):
        return ""                                         # a file that is open already
    writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
                                                 | os.O_APPEND)
    if writes:
        return "" if _inside(path, places[0]) else _place("writing", path, package)
    open_ = any(_inside(path, place) for place in places) and not _inside(path, package)
    return "" if open_ else _place("reading", path, package)


def _place(deed: str, path: Any, package: str) -> str:
    """The package is another matter than somebody's documents."""
    return f"{deed} the package" if _inside(path, package) else f"{deed} outside its folder"


def _inside(path: Any, folder: str) -> bool:
    real = realpath(fsdecode(path))                       # as imported: those of `os` can be changed
    return real == folder or real.startswith(folder.rstrip(os.sep) + os.sep)


def _caller() -> FrameType | None:
    """The frame that has brought the event about: the first outside of this file."""
    try:
        raise LookupError                                 # `sys._getframe` would ask this very hook
    except LookupError as here:
        frame = here.__traceback__.tb_frame if here.__traceback__ else None
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame


def _asked_by_student() -> bool:
    """Whether the code that reads a frame is a cell, or a module that does nothing else."""
    frame = _caller()
    name = frame.f_code.co_filename if frame else ""
    return name.startswith("<cell") or Path(name).name in LOOKERS
