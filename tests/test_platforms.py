"""What breaks on other systems, tried here: encodings, names of files, open maps, other processors, places where
nothing may be written. Most of it runs in processes of their own, under the settings that such a system would have.

Not here: a run on those systems. Read next: `test_install.py` (the wheel).
"""

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.api import TINY
from minivl.show.samples import load_samples

ROOT = Path(__file__).parent.parent
PACKAGE = Path(minivl.__file__).parent
SAMPLES = load_samples()
STRANGE = "кот ü 模型 & [x] 'q'"                              # letters of no one code page, signs of shells and globs
MAPS = Path("/proc/self/maps")                               # Linux says here which files are mapped


def python(code, *words, options=(), cwd=None, **env):
    """Run code in a fresh Python that finds this package; what it printed. Its error, if any, is the failure's text."""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1", **env}
    done = subprocess.run([sys.executable, *options, "-c", code, *map(str, words)], capture_output=True, cwd=cwd,
                          env={name: value for name, value in env.items() if value is not None}, timeout=300)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-4000:]
    return done.stdout


# ---- one journey in a strange place ------------------------------------------------------------------------

# Runs all there is, with an eye on every file that is opened to be written and on whatever reaches out. First word: the
# folder where all is; it must hold `model`, `picture.png` and `cache`.
JOURNEY = """
import json, os, sys
from pathlib import Path
place = Path(sys.argv[1])
written, reached = [], []
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate"}
OUTSIDE = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen",
           "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile"}

def watch(event, args):
    if event == "open" and not isinstance(args[0], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(os.fsdecode(args[0]))
    elif event in CHANGES:
        written.extend(os.fsdecode(one) for one in args if isinstance(one, (str, bytes, os.PathLike)))
    elif event in OUTSIDE:
        reached.append(f"{event} {args!r}")
        raise OSError(f"{event} is not to be had here")

import warnings
with warnings.catch_warnings():                              # what matplotlib itself does is not ours
    warnings.simplefilter("ignore")
    import matplotlib.backends.backend_agg, matplotlib.font_manager, matplotlib.figure
sys.addaudithook(watch)

import numpy as np
import minivl
from minivl import cli
from minivl.show import demo

def command(*words):
    try:
        cli.app([str(word) for word in words])
    except SystemExit as end:
        assert end.code == 0, (words, end.code)

picture = place / "picture.png"
with minivl.load(place / "model") as vlm:
    with minivl.session(dump=place / "dump", record="*") as s:
        answer = vlm.ask(str(picture), "Describe the image.", 8)
    back = minivl.read_dump(str(place / "dump"))
    assert list(back) == list(s.trace)
    for key, output in s.trace.items():
        pairs = zip(output, back[key], strict=True) if isinstance(output, tuple) else [(output, back[key])]
        assert all(np.array_equal(a, b) for a, b in pairs), key
command("inspect", place / "model")
command("tokens", picture, "--model", place / "model")
command("where", picture, "--token", "0")
command("passes", picture, "--model", place / "model", "--max-new-tokens", "2")
command("run", picture, "Describe the image.", "--dump", place / "dump of the command", "--stop-after", "vision")
command("doctor")
demo.main(place / "of the demo.png")
with minivl.session(print_after="vision.merge_2x2"), minivl.load(str(place / "model")) as vlm:
    vlm.ask(picture, "Describe the image.", 1)
print("\\n" + json.dumps({"answer": answer, "written": written, "reached": reached, "letter": "\\u00fc"}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with spaces and letters of three alphabets in its name, and a model and a picture in it."""
    folder = tmp_path_factory.mktemp("a place") / STRANGE
    shutil.copytree(TINY, folder / "model")
    shutil.copy(SAMPLES[0].paths[0], folder / "picture.png")
    (folder / "cache").mkdir()
    return folder


def files_under(folder):
    """Every file under a folder: its name, size and time of change."""
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def journey(place):
    """What the journey found: it names every encoding, has no home and stands in an empty folder."""
    before = files_under(PACKAGE)
    (place / "here").mkdir()
    out = python(JOURNEY, place, options=("-X", "warn_default_encoding", "-W", "error::EncodingWarning"),
                 cwd=place / "here", HOME="/proc/no home", USERPROFILE="Q:\\no home", MPLCONFIGDIR=str(place / "cache"),
                 PYTHONIOENCODING="utf-8", XDG_CACHE_HOME="/proc/no cache")
    assert files_under(PACKAGE) == before                    # the package may lie where nobody can write
    return json.loads(out.decode("utf-8").splitlines()[-1])


def test_everything_runs_in_a_strange_place_and_names_its_encodings(journey, place):
    with minivl.load() as vlm:
        assert journey["answer"] == vlm.ask(place / "picture.png", "Describe the image.", 8)


def test_nothing_is_written_but_what_was_named(journey, place):
    named = ("dump", "of the demo.png", ".of the demo.png.", "cache")
    allowed = tuple(str(place / name) for name in named)
    neutral = {os.devnull, str(place)}                       # `tempfile` says the folder of the file that it makes
    assert not [path for path in journey["written"] if not path.startswith(allowed) and path not in neutral]
    assert not list((place / "here").iterdir())
    left = {path.name for path in place.iterdir()}
    assert left == {"model", "picture.png", "cache", "here", "dump", "dump of the command", "of the demo.png"}
    assert not list(place.rglob("*.partial"))
    assert files_under(place / "model").keys() == files_under(TINY).keys()


def test_nothing_reaches_out_of_the_process(journey):
    asked = [event for event in journey["reached"] if "uname" not in event]
    assert not asked                                         # `platform` asks for the processor, and does without it


def test_written_text_has_the_same_line_ends_everywhere(journey, place):
    texts = [path.read_bytes() for path in (place / "dump").iterdir() if path.suffix != ".npy"]
    assert texts and all(b"\n" in text and b"\r" not in text for text in texts)
    text_writers = [f"{file.name}:{node.lineno}" for file, node in calls(PACKAGE)
                    if name_of(node) == "write_text" and "newline" not in {k.arg for k in node.keywords}]
    assert not text_writers                                  # on Windows they would turn \n into \r\n


# ---- terminals ---------------------------------------------------------------------------------------------

TERMINAL = """
import sys
import numpy as np
import minivl
from minivl import cli
picture, model = sys.argv[1:]

def command(*words):
    try:
        cli.app(list(words))
    except SystemExit as end:
        assert end.code == 0, (words, end.code)

with minivl.load() as vlm:
    single = {vlm.tokenizer.token_bytes(i): i for i in range(256)}
    left = iter([single[bytes([byte])] for byte in "Å \\u2603 \\u732b é".encode()] + [vlm.generation.eos_token_ids[0]])
with minivl.using({"sampling.most_likely": lambda logits: np.array([next(left)])}):
    command("ask", picture, "Describe the image.", "--stream")
command("tokens", picture)
command("inspect", model)
command("passes", picture, "--max-new-tokens", "1")
with minivl.session(print_after="*"), minivl.load() as vlm:
    vlm.ask(picture, "Describe the image.", 1)
"""


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-16"])
def test_a_terminal_of_few_letters_gets_question_marks_not_an_error(encoding, place):
    out = python(TERMINAL, place / "picture.png", place / "model", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    said = out.decode(encoding).splitlines()[0]
    few = "Å \N{SNOWMAN} 猫 é" if encoding == "utf-16" else "? ? ? ?" if encoding == "ascii" else "Å ? ? é"
    assert said == few


def test_a_locale_of_ascii_alone_still_finds_files_with_other_letters(place):
    code = ("import sys, minivl\nwith minivl.load(sys.argv[1]) as vlm:\n    with minivl.session(dump=sys.argv[3]):\n"
            "        vlm.ask(sys.argv[2], 'Describe the image.', 1)\nprint(len(minivl.read_dump(sys.argv[3])))\n"
            "try:\n    vlm.ask(sys.argv[2] + 'x', '')\nexcept ValueError as error:\n    print(ascii(str(error)))")
    out = python(code, place / "model", place / "picture.png", place / "dump ö in C", LC_ALL="C", PYTHONUTF8="0",
                 PYTHONCOERCECLOCALE="0", PYTHONIOENCODING=None)
    count, error = out.decode("ascii").split("\n", 1)
    assert int(count) > 50 and "no such file" in error
    shutil.rmtree(place / "dump ö in C")


# ---- open files --------------------------------------------------------------------------------------------

def mapped(folder):
    lines = MAPS.read_text(encoding="utf-8").splitlines() if MAPS.exists() else []
    return [line for line in lines if str(folder) in line]


def test_a_closed_models_files_can_be_replaced(tmp_path):
    model = shutil.copytree(TINY, tmp_path / "model")
    vlm = minivl.load(model)
    stream = vlm.chat([{"role": "user", "content": "Hello"}], 9, stream=True)
    next(stream)
    features = vlm.vision(vlm.prepare(SAMPLES[0].messages()))
    assert not MAPS.exists() or mapped(model)
    vlm.close()
    assert not mapped(model)                                 # the stream and what came out hold nothing
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"")
    other.replace(model / "model.safetensors")               # Windows refuses this while a map is open
    shutil.rmtree(model)
    assert np.isfinite(features).all()
    stream.close()


def test_a_failed_load_and_every_command_let_go_of_the_files(tmp_path):
    model = shutil.copytree(TINY, tmp_path / "model")
    code = ("import sys\nfrom minivl import cli\n"
            "try:\n    cli.app(['inspect', sys.argv[1]])\nexcept SystemExit:\n    pass\n"
            "from pathlib import Path\nmaps = Path('/proc/self/maps')\n"
            "print('\\n' + str(sys.argv[1] in (maps.read_text(encoding='utf-8') if maps.exists() else '')))")
    assert python(code, model).decode("utf-8").splitlines()[-1] == "False"
    for name in ("tokenizer.json", "preprocessor_config.json", "generation_config.json"):
        whole = (model / name).read_bytes()
        (model / name).write_bytes(b"{")
        with pytest.raises(ValueError, match=name), minivl.load(model) as vlm:
            vlm.ask(None, "Hello", 1)                     # what only generating needs is asked for here
        assert not mapped(model)
        (model / name).write_bytes(whole)


# ---- other processors --------------------------------------------------------------------------------------

ANSWERS = """
import json, sys
import numpy as np
import minivl
from minivl.show.samples import load_samples
with minivl.load() as vlm:
    inputs = vlm.prepare([sample.messages() for sample in load_samples()])
    ids = [vlm.generate(one, 12) for one in inputs]
    np.savez(sys.argv[1], *[vlm.logits(one) for one in inputs])
import threadpoolctl
cores = [pool.get("architecture") for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
print(json.dumps({"ids": ids, "cores": cores}))
"""


def settings_to_try():
    """One thread and several, and the kernels for other x86 processors: those whose instructions this one has."""
    yield "one thread", {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    yield "two threads", {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if platform.machine().lower() not in ("x86_64", "amd64") or "openblas" not in blas:
        return
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    has = {*simd["baseline"], *simd["found"]}
    for core, needed in (("Nehalem", set()), ("Haswell", {"X86_V3", "AVX2"}), ("SkylakeX", {"X86_V4", "AVX512_SKX"})):
        if not needed or has & needed:
            yield core, {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def here():
    with minivl.load() as vlm:
        inputs = vlm.prepare([sample.messages() for sample in SAMPLES])
        return [vlm.generate(one, 12) for one in inputs], [vlm.logits(one) for one in inputs]


@pytest.mark.parametrize("name, env", [pytest.param(*one, id=one[0]) for one in settings_to_try()])
def test_other_threads_and_other_kernels_say_the_same(name, env, here, tmp_path):
    found = json.loads(python(ANSWERS, tmp_path / "logits.npz", **env))
    if "OPENBLAS_CORETYPE" in env:
        assert found["cores"] == [name]                         # else nothing was tried
    ids, logits = here
    assert found["ids"] == ids
    with np.load(tmp_path / "logits.npz") as theirs:
        for ours, other in zip(logits, theirs.values(), strict=True):
            assert np.linalg.norm(other - ours) < 1e-5 * np.linalg.norm(ours)


# ---- names and text of the repository ----------------------------------------------------------------------

GENERATED = {"__pycache__", "build", "dist", "node_modules"}
RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$")


def in_repository():
    """Files and folders of the checkout, without what tools leave there."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in GENERATED and not name.endswith(".egg-info")
                      and (not name.startswith(".") or name == ".ci")]
        yield from (Path(folder, name).relative_to(ROOT) for name in [*folders, *files])


def clashes(names):
    """Names that one system keeps apart and another does not: letters of either case, composed and decomposed."""
    import unicodedata
    seen = {}
    for name in names:
        seen.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return [group for group in seen.values() if len(group) > 1]


def refused_by_windows(part):
    return bool(RESERVED.match(part) or re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]$', part))


def test_names_that_windows_would_refuse_are_told():
    for part in ("nul", "AUX.py", "com1.txt", "a.", "a ", "a:b", "a?b", 'a"b', "a|b", "a<b", "a\tb"):
        assert refused_by_windows(part)
    for part in ("null.py", "common.py", ".gitignore", "a b.txt", "decoder@1.npy", "console.py"):
        assert not refused_by_windows(part)
    assert clashes(["a/B.py", "A/b.py", "c", "é", "e\u0301"]) == [["a/B.py", "A/b.py"], ["é", "e\u0301"]]


def test_every_name_can_be_checked_out_everywhere():
    paths = list(in_repository())
    assert len(paths) > 50
    assert not clashes([path.as_posix() for path in paths])
    assert not [path for path in paths if any(map(refused_by_windows, path.parts))]
    assert not [path for path in paths if len(path.as_posix()) > 180]
    assert not [path for path in paths if (ROOT / path).is_symlink()]
    assert not [path for path in paths if not path.as_posix().isascii()]


def test_names_in_a_dump_can_be_copied_anywhere(journey, place):
    names = [path.name for path in (place / "dump").iterdir()]
    assert len(names) > 50 and not clashes(names) and not [n for n in names if refused_by_windows(n) or len(n) > 100]


TEXT = {".py", ".md", ".toml", ".json", ".jinja", ".svg", ".txt", ".yml", ".cfg", ".cu", ".ipynb", ""}


def test_text_has_unix_line_ends_and_is_utf_8_without_a_mark():
    texts = [path for path in in_repository() if path.suffix in TEXT and (ROOT / path).is_file()]
    assert len(texts) > 50
    for path in texts:
        data = (ROOT / path).read_bytes()
        assert b"\r" not in data, f"{path} has a carriage return"
        assert not data.startswith(b"\xef\xbb\xbf"), f"{path} has a byte order mark"
        data.decode("utf-8")
    rules = (ROOT / ".gitattributes").read_text(encoding="utf-8").split("\n")
    assert "* text=auto eol=lf" in rules                     # or Windows would check out a chat template with \r\n
    assert all(f"*.{kind} binary" in rules for kind in ("png", "safetensors"))


# ---- what the code asks of the system ----------------------------------------------------------------------

def calls(folder):
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield file, node


def name_of(node):
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def imports(tree):
    """The import statements that must not fail: all but those in a `try` that goes on after ImportError."""
    may_fail = {part for node in ast.walk(tree) if isinstance(node, ast.Try)
                and any(getattr(handler.type, "id", "") == "ImportError" for handler in node.handlers)
                for inner in node.body for part in ast.walk(inner)}
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) and node not in may_fail]


def test_what_may_be_missing_is_no_need():
    tree = ast.parse("import a\ntry:\n    import b\nexcept ImportError:\n    import c\ntry:\n    import d\n"
                     "except ValueError:\n    pass")
    assert {node.names[0].name for node in imports(tree)} == {"a", "c", "d"}


def test_the_package_needs_nothing_that_one_system_lacks():
    only_unix = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "posix", "readline", "curses", "syslog"}
    only_windows = {"winreg", "msvcrt", "winsound", "_winapi", "nt"}
    limits = PACKAGE / "teach" / "course" / "confine.py"    # of a graded submission's process; nothing else loads it
    lines = PACKAGE / "cli" / "chat" / "lines.py"           # readline where there is one; Windows edits lines itself
    for file in set(PACKAGE.rglob("*.py")) - {limits, lines}:
        for node in imports(ast.parse(file.read_text(encoding="utf-8"))):
            names = ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                     [] if node.level else [node.module or ""])
            assert not {name.partition(".")[0] for name in names} & (only_unix | only_windows), file
    unfit = {"symlink", "symlink_to", "fork", "mkfifo", "geteuid", "getuid", "chown", "setlocale", "uname"}
    assert not [(file.name, node.lineno) for file, node in calls(PACKAGE) if name_of(node) in unfit]
