"""docs/guide/walk-through.md, run as it is printed: the files that it shows, the commands in their order, what they
say; then the line is mended as the page says, and the difference is gone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minivl

PAGE = (Path(__file__).parent.parent.parent / "docs" / "guide" / "walk-through.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE)
FILES = {text.split()[1]: text for kind, text in BLOCKS if kind == "python"}
COMMANDS = [text.strip() for kind, text in BLOCKS if kind == "sh"]
CODES = [0, 0, 1, 1, 0]


def said_after(command: str) -> list[str]:
    """The lines that the page prints between a command and the next one."""
    rest = PAGE.partition(command)[2].partition("```sh")[0]
    return [line for text in re.findall(r"(?ms)^```text\n(.*?)^```$", rest) for line in text.splitlines()]


def run(command: str, folder: Path) -> tuple[int, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(command, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True,
                          encoding="utf-8", timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def test_it_is_as_short_as_it_says():
    assert len(COMMANDS) == len(CODES) <= 5
    glue = [line for line in FILES["glue.py"].splitlines() if line.strip() and not line.startswith("#")]
    assert len(glue) <= 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("walk")
    shutil.copy(Path(minivl.__file__).parent / "show" / "samples" / "ragged.png", made / "photo.png")
    for name, text in FILES.items():
        (made / name).write_text(text, encoding="utf-8")
    return made


def test_every_command_says_what_the_page_says(folder):
    for command, code in zip(COMMANDS, CODES, strict=True):
        got, said = run(command, folder)
        assert got == code, said
        for line in said_after(command):
            assert line in said, (command, line, said)


def test_the_mended_port_is_within_rounding(folder):
    """The other side of the page: without the wrong line there is nothing to find."""
    (mending,) = (text for kind, text in BLOCKS if kind == "diff")
    wrong, right = (line[1:] for line in mending.splitlines())
    assert FILES["port.py"].count(wrong) == 1
    (folder / "port.py").write_text(FILES["port.py"].replace(wrong, right), encoding="utf-8")
    if not (folder / "golden.safetensors").exists():
        run(COMMANDS[0], folder)
    assert run(COMMANDS[1], folder)[0] == 0
    code, said = run(COMMANDS[2], folder)
    assert code == 0 and "no difference beyond rounding" in said, said
