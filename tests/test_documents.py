"""What the pages at the top say is so: commands exist, numbers are those of the code or of a kept
result, tests that are named are there, files that others read (CITATION.cff, workflows) can be read.

Read next: `test_api.py` (README's Python runs), `tools/test_site.py` (links).
"""

import ast
import importlib.util
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

import minivl
from minivl.cli import words
from minivl.show.samples import load_samples, overlap
from tools.bench import compare, record
from tools.bench.speed import report
from tools.pages import readme_pictures

ROOT = Path(__file__).parent.parent


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


README, SECURITY, CHANGELOG = map(text_of, ("README.md", "SECURITY.md", "CHANGELOG.md"))
CONTRIBUTING, STABILITY = text_of("CONTRIBUTING.md"), text_of("docs/reference/stability.md")
MAKEFILE = text_of("Makefile")
TARGETS = set(re.findall(r"(?m)^([a-z-]+):", MAKEFILE))


def yaml_of(name):
    yaml = pytest.importorskip("yaml", reason="the package PyYAML is not installed")
    return yaml.safe_load(text_of(name))


# ---- commands ----------------------------------------------------------------------------------

def commands_in(page):
    """Lines of the blocks of commands, and commands in single backticks; comments cut off."""
    blocks = re.findall(r"(?m)^    (?:\$ )?((?:minivl|make|python|pip|pytest) .*)$", page)
    spans = re.findall(r"`((?:minivl|make|python -m|python tools/)\b[^`]*)`", page.replace("\n", " "))
    return [line.partition("  #")[0].strip() for line in [*blocks, *spans]]


def trouble_with(line):
    """What is wrong with a command, or nothing. Files that it names need not be there."""
    program, *rest = shlex.split(line)
    if program == "make":
        gone = [word for word in rest if "=" not in word and word not in TARGETS]
        return f"no target {gone[0]}" if gone else ""
    if program == "python" and rest[:1] == ["-m"]:
        ours = rest[1].startswith(("minivl", "tools", "tests"))
        found = importlib.util.find_spec(rest[1]) if ours else f'"{rest[1]}>=' in text_of("pyproject.toml")
        return "" if found else "no such module"
    if program == "python":
        return "" if (ROOT / rest[0]).is_file() else "no such file"
    return trouble_with_minivl(rest) if program == "minivl" else ""


def trouble_with_minivl(rest):
    command, options = get_command(words.app), []
    while rest and getattr(command, "commands", {}).get(rest[0]):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for one in command.params for name in one.opts} | {"--help", "--version", "--debug"}
    options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    if hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        return f"no command {rest[0]}"
    return next((f"no option {one}" for one in options if one not in known), "")


PAGES = {"README.md": README, "SECURITY.md": SECURITY, "CONTRIBUTING.md": CONTRIBUTING,
         "CHANGELOG.md": CHANGELOG.split("### What moved")[0],
         "tools/bench/README.md": text_of("tools/bench/README.md")}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one(page):
    lines = commands_in(PAGES[page])
    assert lines
    assert [(line, said) for line in lines if (said := trouble_with(line))] == []


def test_a_command_that_is_none_is_found():
    assert trouble_with("make everything") and trouble_with("python -m tools.nothing")
    assert trouble_with("minivl nothing") and trouble_with("minivl ask a.png b --nothing")
    assert trouble_with("minivl course nothing x")
    assert not trouble_with("minivl trace record a.png b -o c")


# ---- README ------------------------------------------------------------------------------------

def test_the_tower_in_readme_is_the_one_that_runs():
    (shown,) = re.findall(r"(?s)^```py\n(.*?)^```", README, re.MULTILINE)
    assert shown in text_of("minivl/model.py")


def test_a_pass_left_out_spoils_the_box_and_not_the_description():
    """What README says of its first example; another embedded model may need another example."""
    sample, question = load_samples()[0], "Find the pink cross."
    with minivl.load() as vlm:
        def said():
            return vlm.ask(sample.paths[0], "What is in this image?"), vlm.ground(sample.paths[0], question)
        right = said()
        with minivl.using({"vision.order_by_window": lambda rows, order: rows}):
            wrong = said()
    assert right[0] == wrong[0] == "A pink cross." and README.count("# A pink cross.") == 2
    ((box, *_), (other, *_)) = right[1], wrong[1]
    assert len(right[1]) == len(wrong[1]) == 1 and "# a box at another place" in README
    assert overlap(box.box, other.box) == 0 and "the box is at another place" in README


def test_the_table_of_speed_is_that_of_the_results_it_names():
    files = re.findall(r"\((tools/bench/results/[\w-]+\.json)\)", README)
    ratios = [name for name in files if "/speed-" in name]
    assert len(files) >= 2 and len(ratios) == 1
    assert compare.table([record.read(ROOT / name) for name in files if name not in ratios]) in README
    kept = record.read(ROOT / ratios[0])
    assert f"{report.as_fast(kept.figures)}\n{compare.about(kept)}" in README


def test_so_are_the_tables_of_other_processors():
    page = (ROOT / "tools/bench/README.md").read_text(encoding="utf-8")
    files = re.findall(r"\((results/speed-[\w-]+\.json)\)", page)
    assert len(files) >= 2
    for name in files:
        kept = record.read(ROOT / "tools/bench" / name)
        section = page[page.index(f"({name})"):]
        section = section[:section.index("Load average")]
        made = {"| side |": report.table(kept.figures), "| | ": report.as_fast(kept.figures)}
        assert any(f"{table}\n{compare.about(kept)}" in page for table in made.values() if table), name
        for head, table in made.items():
            assert (bool(table) and table in section) == (f"\n{head}" in section), (name, head)


def test_pictures_say_in_words_what_they_show():
    shown = re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", README)
    assert len(shown) >= 2
    assert all(len(words_) > 40 and (ROOT / path).is_file() for words_, path in shown)


def test_the_words_beside_the_explorer_are_those_of_the_sample_in_it():
    (sample,) = [one for one in load_samples() if one.name == readme_pictures.SHOWN]
    answer, (first, second) = sample.answer.rstrip("."), re.findall(r"the (\w+ \w+)", sample.question)
    (said,) = re.findall(r"!\[([^\]]*)\]\([^)]*explorer\.png\)", README.replace("\n", " "))
    assert f'"{sample.question}"' in README and f'before it said "{answer}"' in README
    assert first in said and second in said and f"the answer is {answer}." in said
    (told,) = re.findall(r"!\[([^\]]*)\]\([^)]*explorer\.png\)", text_of("tools/pages/sphinx/index.md"))
    assert first in told


# ---- security ----------------------------------------------------------------------------------

def assigned(name):
    """The value of a constant of the package: `NAME`, `Class.name`, or one of them ` in file.py`."""
    constant, _, file = name.partition(" in ")
    values = {value for path, key, value in constants() if key == constant and file in ("", path.name)}
    assert len(values) == 1, f"{name}: {values}"
    return values.pop()


@cache
def constants():
    """(file, name, value) of every constant number of the package."""
    paths = sorted((ROOT / "minivl").rglob("*.py"))
    return [(path, name, value) for path in paths for name, value in constants_of(path)]


def constants_of(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef)]
    scopes = [("", tree.body), *((f"{one.name}.", one.body) for one in classes)]
    for scope, body in scopes:
        for node in body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            for target in targets:
                names, parts = [target], [value]
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):      # A, B = 1, 2
                    names, parts = target.elts, value.elts
                for name, part in zip(names, parts, strict=False):
                    if isinstance(name, ast.Name) and (number := number_of(part)) is not None:
                        yield scope + name.id, number


def number_of(node):
    """The value of an expression of numbers, or None."""
    allowed = ast.Constant | ast.BinOp | ast.operator
    parts = list(ast.walk(node)) if node is not None else []
    if not parts or not all(isinstance(one, allowed) for one in parts):
        return None
    value = eval(compile(ast.Expression(node), "a constant", "eval"), {"__builtins__": {}})
    return value if isinstance(value, int | float) else None


def test_every_limit_is_the_one_in_the_code():
    rows = re.findall(r"(?m)^\| [^|]+ \| ([\d,]+) \| `([\w.]+)`(?: in `([\w.]+)`)? \|$", SECURITY)
    assert len(rows) > 10
    for said, name, file in rows:
        assert int(said.replace(",", "")) == assigned(f"{name} in {file}" if file else name), name


def test_every_test_that_security_names_is_there():
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")]
    here = set(re.findall(r"(?m)^def (test_\w+)\(", "\n".join(texts)))
    named = set(re.findall(r"`(test_\w+)`", SECURITY))
    assert len(named) > 20 and named <= here, named - here


def test_each_threat_has_a_number_of_its_own():
    numbers = re.findall(r"(?m)^\*\*([STRIDE])-(\d+) ", SECURITY)
    assert len(numbers) == len(set(numbers))
    for letter in "STRIDE":
        mine = [int(n) for one, n in numbers if one == letter]
        assert mine == list(range(1, len(mine) + 1))
    referred = set(re.findall(r"\b([STRIDE]-\d+)\b", SECURITY))
    assert referred == {f"{letter}-{n}" for letter, n in numbers}


# ---- stability and what moved ------------------------------------------------------------------

def test_every_public_name_has_a_promise_and_every_promise_a_name():
    named = set(re.findall(r"`(minivl(?:\.\w+)+)`", STABILITY))
    assert {f"minivl.{name}" for name in minivl.__all__} <= named
    assert [name for name in sorted(named) if not there(name)] == []


def there(name):
    """Whether a dotted name is a module, or something in one."""
    *parents, last = name.split(".")
    try:
        if importlib.util.find_spec(name):
            return True
    except ModuleNotFoundError:
        pass
    try:
        return hasattr(importlib.import_module(".".join(parents)), last)
    except ModuleNotFoundError:
        return len(parents) > 1 and there(".".join(parents))


def test_every_wing_is_in_the_table():
    wings = {path.parent.name for path in (ROOT / "minivl").glob("*/__init__.py")}
    assert wings | {"tiny"} <= set(re.findall(r"(?m)^\| `(\w+)` \|", STABILITY))


def test_what_moved_is_where_the_changelog_says():
    rows = re.findall(r"(?m)^\| `((?:minivl|python)[^`]*)`[^|]* \| `([^`]+)` \|$", CHANGELOG)
    assert len(rows) > 40
    for before, now in rows:
        if now.startswith("minivl"):
            assert there(now) and before != now, now
        else:
            assert not trouble_with(now), now


def test_the_changelog_has_the_version_that_runs():
    heads = re.findall(r"(?m)^## \[([^\]]+)\]", CHANGELOG)
    assert heads[0] == "Unreleased" and minivl.__version__ in heads


# ---- files that others read --------------------------------------------------------------------

def test_the_citation_has_what_cff_asks_for():
    found = yaml_of("CITATION.cff")
    assert found["cff-version"] == "1.2.0" and found["type"] == "software"
    assert {"message", "title", "authors"} <= found.keys()
    assert found["license"] == "Apache-2.0" and found["version"] == minivl.__version__
    for work in [found, *found["references"]]:
        assert all(person.keys() & {"name", "family-names"} for person in work["authors"])
        assert not {"type", "title", "authors"} - work.keys()


def steps_of(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_workflows_run_documented_commands_with_few_rights():
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        found = yaml_of(path.relative_to(ROOT).as_posix())
        assert found["permissions"] == {"contents": "read"}, path.name
        assert True in found or "on" in found              # YAML 1.1 reads `on` as true
        for step in steps_of(found):
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+", step["uses"]), step
            else:
                name = step["run"].split()[1]
                assert not trouble_with(step["run"]) and f"make {name}" in README + CONTRIBUTING, step


def test_the_workflow_covers_every_system_and_version():
    matrix = yaml_of(".github/workflows/ci.yml")["jobs"]["light"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["system"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]


def test_hooks_updates_and_the_container_can_be_read():
    hooks = [hook for repo in yaml_of(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in hooks} >= {"ruff", "mypy", "notebooks"}
    for hook in hooks:
        assert not trouble_with(hook["entry"]) and re.compile(hook.get("files", "")), hook
    kinds = {one["package-ecosystem"] for one in yaml_of(".github/dependabot.yml")["updates"]}
    assert kinds == {"pip", "github-actions"}
    container = json.loads(text_of(".devcontainer/devcontainer.json"))
    assert not trouble_with(container["postCreateCommand"]) and "3.11" in container["image"]
