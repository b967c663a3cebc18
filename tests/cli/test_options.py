"""Every command that runs a model of the user's takes the same options for it, and they reach the model.

Read next: `minivl/cli/options.py`; `tests/run/test_cut_mpi.py`, the same over several ranks.
"""

import json

import pytest
import typer
from typer.testing import CliRunner

import minivl
from minivl import api
from minivl.cli.options import GROUPS, KEEPING, LOADING, takes
from minivl.cli.words import app
from minivl.show.samples import load_samples

SAMPLE = next(one for one in load_samples() if one.fps is None)
ASKED = [str(SAMPLE.paths[0]), SAMPLE.question]
TREE = typer.main.get_command(app).commands
COMMANDS = {"ask": TREE["ask"], "ground": TREE["ground"], "parse": TREE["parse"], "chat": TREE["chat"],
            "serve": TREE["serve"], "passes": TREE["passes"], "run": TREE["run"],
            "explore": TREE["explore"], "trace record": TREE["trace"].commands["record"]}


# `parse` and `ground` end with 1, as the answer is no document and names no place
def words_of(name, folder):
    """A line that runs a command on the sample."""
    page, picture, trace = (str(folder / file) for file in ("page.html", "found.png", "run.safetensors"))
    return {"ask": ["ask", *ASKED], "ground": ["ground", *ASKED, "-o", picture],
            "parse": ["parse", ASKED[0], "--max-new-tokens", "8"], "chat": ["chat", ASKED[0]],
            "passes": ["passes", *ASKED, "--max-new-tokens", "2"], "run": ["run", *ASKED],
            "explore": ["explore", *ASKED, "-o", page, "--max-new-tokens", "2"],
            "trace record": ["trace", "record", *ASKED, "-o", trace, "--precision", "float32"]}[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_options_everywhere(name):
    there = {option.name for option in COMMANDS[name].params}
    assert there >= LOADING.keys() and COMMANDS[name].help
    assert name == "trace record" or there >= KEEPING.keys()       # a trace is that of the plain path
    first = {option.name: option.help for option in COMMANDS["ask"].params}
    for option in COMMANDS[name].params:
        if option.name in GROUPS["keeping"] | LOADING and (name, option.name) != ("trace record", "precision"):
            assert option.help == first[option.name]


def test_a_command_that_loads_a_model_by_itself_is_one_of_these():
    """No further command asks for `--kernels` or `--memory` in a way of its own."""
    every = {name: one for name, one in TREE.items() if not hasattr(one, "commands")}
    for group in ("trace", "cuda", "course"):
        every |= {f"{group} {name}": one for name, one in TREE[group].commands.items()}
    asking = {name for name, one in every.items() if {"kernels", "device"} & {option.name for option in one.params}}
    assert asking == COMMANDS.keys()


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "serve"])
def test_what_is_said_reaches_load(name, monkeypatch, tmp_path):
    asked, load = [], api.load

    def noted(*given, **named):
        asked.append((given, named))
        return load(*given, **named)
    monkeypatch.setattr(api, "load", noted)
    done = CliRunner().invoke(app, [*words_of(name, tmp_path), "--kernels", "definition", "--memory", "300MiB"],
                              input="What is it?\n")
    assert done.exit_code == (name in ("parse", "ground")), done.output
    ((_, precision, kernels), named), *_ = asked
    assert (precision, kernels, named["memory"]) == ("float32", "definition", "300MiB")


@pytest.mark.parametrize("name", ["ask", "ground", "parse", "chat", "passes", "run", "explore"])
def test_what_is_said_of_rows_reaches_the_run(name, tmp_path):
    """A cache of a type that there is none of is refused by whoever keeps the rows, a context by its length."""
    for words, said in ((["--cache", "float16"], "cache is 'float16'"), (["--context", "9"], "a context of 9"),
                        (["--cache", "int8", "--chunk", "20"], None)):
        done = CliRunner().invoke(app, [*words_of(name, tmp_path), *words], input="What is it?\n")
        if said is None:
            assert done.exit_code == (name in ("parse", "ground")), done.output
        else:
            assert done.exit_code == 2 and said in done.stderr, (words, done.output)


def test_a_cache_in_bytes_is_the_one_that_is_used(monkeypatch, tmp_path):
    found = []
    kept = api.VLM._keeping
    monkeypatch.setattr(api.VLM, "_keeping", lambda vlm, options: found.append(dict(options)) or kept(vlm, options))
    CliRunner().invoke(app, ["ask", *ASKED, "--cache", "int8", "--chunk", "20", "--context", "500"])
    assert {"cache": "int8", "chunk": 20, "context": 500}.items() <= found[0].items()


@pytest.mark.parametrize("name", ["serve", "passes", "run", "explore", "trace record"])
def test_a_cut_model_is_refused_with_the_reason_where_one_rank_is_not_enough(name, tmp_path):
    words = ["serve"] if name == "serve" else words_of(name, tmp_path)
    done = CliRunner().invoke(app, [*words, "--parallel", "tensor=2"])
    reason = "whenever a request comes" if name == "serve" else "one rank's share"
    assert done.exit_code == 2 and "cuts a model over several ranks" in done.stderr and reason in done.stderr


def test_an_option_of_its_own_stays_and_exit_codes_come_through():
    small = typer.Typer()
    said = []

    @small.command()
    @takes()
    def one(*, chosen, precision: str = "mine", code: int = 0):
        said.append((chosen, precision))
        raise typer.Exit(code)
    small.command("other")(one)
    assert CliRunner().invoke(small, ["one", "--code", "3", "--kernels", "jit"]).exit_code == 3
    assert said[0][0].kernels == "jit" and said[0][1] == "mine"


def test_streamed_answers_are_the_same(tmp_path):
    plain = CliRunner().invoke(app, ["ground", *ASKED, "-o", str(tmp_path / "a.png"), "--json"])
    low = CliRunner().invoke(app, ["ground", *ASKED, "-o", str(tmp_path / "a.png"), "--json", "--memory", "300MiB",
                                   "--kernels", "definition"])
    assert json.loads(plain.stdout)["answer"] == json.loads(low.stdout)["answer"] == minivl.load().chat(
        [{"role": "user", "content": [{"type": "image", "image": ASKED[0]}, {"type": "text", "text": ASKED[1]}]}],
        temperature=0)
