"""Launches in a process of their own: `cuda/host/serve.cpp`.

A kernel that crashes, or that AddressSanitizer ends, ends that process alone; one that never ends is ended when
its seconds of processor time are used up (time in which the machine does something else does not count). The next
launch starts a new process.

Read next: `faults.py`, what is made of a process's last words.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from . import machine
from .build import Kernel, server
from .faults import Context, last_words
from .memory import Memory, raw, store
from .signature import MOST, Parameter, named

QUIET = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:allocator_may_return_null=1",
         "UBSAN_OPTIONS": "print_stacktrace=0"}


class Gone(Exception):
    """The process ended in the middle."""


class Server:
    """A process for one compiled file, started when it is first needed."""

    def __init__(self, path: Path, build: str, seconds: float):
        self.path, self.build, self.seconds = path, build, seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.replies = -1
        self.words: Any = None

    def start(self) -> None:
        """Start the process, unless it runs."""
        if self.process is not None:
            return
        program = server(self.build)
        self.replies, theirs = os.pipe()
        self.words = tempfile.TemporaryFile()              # noqa: SIM115 - closed in `close`
        try:
            self.process = subprocess.Popen([str(program), str(self.path), str(theirs), str(self.seconds)],
                                            stdin=subprocess.PIPE, stderr=self.words, pass_fds=(theirs,),
                                            env={**os.environ, **QUIET})
        finally:
            os.close(theirs)

    def close(self) -> int:
        """End the process; its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        os.close(self.replies)
        return process.wait()

    def __del__(self) -> None:
        if getattr(self, "process", None) is not None:
            self.close()

    def run(self, launch: machine.Launch, memory: Memory, values: Sequence[Any],
            context: Context) -> machine.Report:
        """One launch. Raises KernelFault when the process ends in it."""
        self.start()
        try:
            self.send(request(launch, memory, values, context.kernel))
            report = machine.Report.from_buffer_copy(self.receive(ctypes.sizeof(machine.Report)))
            for piece in memory.pieces:
                if not piece.read_only:
                    data = np.frombuffer(self.receive(piece.bytes), np.uint8)
                    if not report.kind:
                        store(piece, data)
            return report
        except Gone:
            code = self.close()
            self.words.seek(0)
            said = self.words.read().decode("utf-8", "replace")
            error = last_words(said, code, context)
            raise error from None

    def describe(self, kernel: Kernel) -> tuple[tuple[Parameter, ...], int]:
        """What `signature.described` says, of a file that cannot be loaded into this process."""
        self.start()
        asked = b"?" + kernel.name.encode()
        self.send([struct.pack("<I", len(asked)), asked])
        count, most = struct.unpack("<ii", self.receive(8))
        raw = (machine.Parameter * MOST).from_buffer_copy(self.receive(MOST * ctypes.sizeof(machine.Parameter)))
        return named(raw[:count], kernel), most

    def send(self, parts: list[Any]) -> None:
        """Write a request."""
        assert self.process is not None and self.process.stdin is not None
        try:
            for part in parts:
                self.process.stdin.write(part)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Gone from None

    def receive(self, count: int) -> bytes:
        """Read so many bytes of a reply."""
        parts = []
        while count:
            part = os.read(self.replies, min(count, 1 << 20))
            if not part:
                raise Gone
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def request(launch: machine.Launch, memory: Memory, values: Sequence[Any], kernel: str) -> list[Any]:
    """A launch in the order in which serve.cpp reads it."""
    parts: list[Any] = [struct.pack("<I", len(kernel)), kernel.encode(),
                        bytes(launch)[:machine.Launch.region.offset]]
    for i in range(launch.regions):
        region = machine.Region.from_buffer_copy(launch.region[i])
        if region.kind == machine.ARGUMENT:
            piece = memory.pieces[i]
            region.start = piece.offset
            parts += [bytes(region), whole(piece)]
        else:
            parts.append(bytes(region))
    parts.append(struct.pack("<i", len(values)))
    for number, value in enumerate(values):
        found = memory.where(number)
        if found is not None:
            parts.append(struct.pack("<iQ24x", *found))
        else:
            data = value.tobytes() if isinstance(value, np.generic) else b""
            parts.append(struct.pack("<i32s", -1, data))
    return parts


def whole(piece: Any) -> bytes:
    """All bytes of a piece, from arrays that may overlap."""
    if len(piece.arrays) == 1:
        return bytes(raw(piece.arrays[0]).data)
    data = np.empty(piece.bytes, np.uint8)
    for array in piece.arrays:
        begin = array.ctypes.data - piece.source
        data[begin:begin + array.nbytes] = raw(array)
    return data.tobytes()
