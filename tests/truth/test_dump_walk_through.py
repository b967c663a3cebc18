"""docs/guide/a-dump-as-it-lies.md, run as it is printed: the dump is made, then four commands in their order say what
the page says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minivl

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "guide" / "a-dump-as-it-lies.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE)
COMMANDS = [text.strip() for kind, text in BLOCKS if kind == "sh"]
CODES = [0, 0, 1, 1]


def said_after(command: str) -> list[str]:
    """The lines that the page prints between a command and the next one."""
    rest = PAGE.partition(command)[2].partition("```sh")[0]
    return [line for text in re.findall(r"(?ms)^```text\n(.*?)^```$", rest) for line in text.splitlines()]


def run(command: str, folder: Path) -> tuple[int, str]:
    env = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
           "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, encoding="utf-8", timeout=300,
                          check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(os.name == "nt", reason="the page is written for a shell of Unix")
def test_four_commands_lead_to_the_guilty_line(tmp_path):
    (setup,) = (text.strip() for kind, text in BLOCKS if kind == "bash")
    shutil.copy(Path(minivl.__file__).parent / "show" / "samples" / "ragged.png", tmp_path / "photo.png")
    assert run(setup.replace("python ", f"{sys.executable} ", 1), tmp_path)[0] == 0
    assert len(COMMANDS) == len(CODES) == 4
    for command, code in zip(COMMANDS, CODES, strict=True):
        got, said = run(command, tmp_path)
        assert got == code, said
        for line in said_after(command):
            assert line in said, (command, line, said)
