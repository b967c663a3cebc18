"""What the process of a submission may not do: much memory, time, output; writing, programs, network.

Three layers, each for what the one before lets through. Limits of the system (`limit`) end what grows or
runs on. The kernel's Landlock (`lock`), which needs no rights, refuses every write outside one folder,
every program, TCP and signals to other processes, whatever Python is made to do. Python's audit hook
(`watch`) says who tried what, and keeps frames, the collector's lists and this package's files closed.

Runs inside that process, before the submission does; nothing here can be undone there without native
code. Read
next: `child.py`; docs/teaching/grading.md says what remains possible.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RULES, ADD_RULE, RESTRICT, NO_NEW_PRIVILEGES = 444, 445, 446, 38  # system calls, and one of prctl
EXECUTE, WRITES = 1, sum(1 << n for n in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
REFER, TRUNCATE, TCP, OTHERS = 1 << 13, 1 << 14, 3, 3

PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn",
            "os.spawn",
            "os.startfile", "pty.spawn", "os.kill", "os.killpg", "signal.pthread_kill")
FRAMES = ("sys._current_frames", "sys._current_exceptions", "gc.get_objects", "gc.get_referrers",
          "gc.get_referents")
TRACING = ("sys.settrace", "sys.setprofile", "sys.addaudithook")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link",
           "os.symlink",
           "os.truncate", "os.utime", "os.setxattr", "os.removexattr")
LIBRARIES = ("/usr", "/lib", "/lib64", "/dev/null", "/dev/urandom")
LOOKERS = ("inspect.py", "traceback.py")                  # modules through which frames are usually read


def limit(memory: int, seconds: int, size: int) -> None:
    """Limits of the system. memory: bytes of addresses; seconds: of a processor; size: of any file."""
    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, size),
                       (resource.RLIMIT_CORE, 0),
                       (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_NPROC, 0)):
        resource.setrlimit(what, (most, most))
    # first a signal that says why, then the end
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))


def lock(folder: str) -> bool:
    """Let the kernel refuse writes outside `folder`, programs, TCP, signals. False without Landlock."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(RULES, None, 0, 1)
    if version < 1:
        return False
    writes = WRITES | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    handled = struct.pack("=QQQ", writes | EXECUTE, TCP,
                          OTHERS)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(RULES, handled, len(handled), 0)
    beneath = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    libc.syscall(ADD_RULE, rules, 1, struct.pack("=Qi", writes, beneath), 0)
    locked = libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and libc.syscall(RESTRICT, rules, 0) == 0
    os.close(beneath)
    os.close(rules)
    return locked


def watch(folder: str, package: str, said: Callable[[str], None]) -> None:
    """Refuse, from now on, what a submission has no business with, and tell `said` what.

    folder: where it may write. package: where minivl is, which is not to be read; other files may be
    where Python and the system's libraries are.
    """
    places = [folder, os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix), *LIBRARIES]

    def hook(event: str, args: tuple) -> None:
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
    real = os.path.realpath(os.fsdecode(path))
    return real == folder or real.startswith(folder.rstrip(os.sep) + os.sep)


def _asked_by_student() -> bool:
    """Whether the code that reads a frame is a cell, or a module that does nothing else."""
    try:
        raise LookupError                                 # `sys._getframe` would ask this very hook
    except LookupError as here:
        frame: Any = here.__traceback__.tb_frame if here.__traceback__ else None
    for _ in range(3):                                    # past this function, `_forbidden` and the hook
        frame = frame.f_back
    name = frame.f_code.co_filename
    return name.startswith("<cell") or Path(name).name in LOOKERS
