"""Results of benchmarks are kept with the facts of their machine, compared two by two, and shown as a table."""

import json

import pytest

from tools.bench import compare, record
from tools.bench.record import Figure, Result

MACHINE = {"processor": "A", "cores": 2, "memory_gib": 8.0, "blas": "b 1", "blas_kernel": "k",
           "numpy": "2", "python": "3.11", "load_average": 0.1}


def result(seconds, machine=MACHINE, **more):
    figures = {"load": seconds, **more}
    return Result("made_up", "2026-01-02T03:04:05+00:00", "abc", machine,
                  [Figure(name, value, "s") for name, value in figures.items()])


def test_a_result_comes_back_as_it_was_kept(tmp_path):
    figures = [Figure("load", 1.25, "s"), Figure("rate", 3.0, "GFLOP/s")]
    path = record.keep("made_up", figures, tmp_path)
    (found,) = record.kept("made_up", tmp_path)
    assert found.figures == figures and found == record.read(path) and ":" not in path.name
    assert record.kept("other", tmp_path) == [] and compare.names(tmp_path) == ["made_up"]
    for fact in ("processor", "flags", "cores", "memory_gib", "system", "python", "numpy", "blas"):
        assert found.machine[fact], fact


def test_the_last_two_are_compared_and_the_older_ones_are_not(tmp_path, monkeypatch, capsys):
    for n, seconds in enumerate((9.0, 2.0, 3.0)):
        figures = [figure._asdict() for figure in result(seconds).figures]
        document = json.dumps(result(seconds)._asdict() | {"figures": figures})
        path = tmp_path / f"made_up-2026010{n + 1}T000000Z.json"
        path.write_text(document, encoding="utf-8")
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    monkeypatch.setattr(compare, "kept", lambda name: record.kept(name, tmp_path))
    monkeypatch.setattr("sys.argv", ["compare"])
    assert compare.main() == 0
    said = capsys.readouterr().out
    assert "2 ->          3 s" in said and "1.50 x" in said and "9" not in said.replace("2026", "")
    assert "warning" not in said


def test_without_two_results_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["compare"])
    assert compare.main() == 1 and "--keep before a change" in capsys.readouterr().err


def test_a_figure_that_is_new_or_gone_is_said():
    said = "\n".join(compare.comparison(result(1.0, old=5.0), result(1.0, new=7.0)))
    assert "old" in said and "is no longer measured" in said and "- ->          7 s" in said


@pytest.mark.parametrize(("change", "words"), [
    ({"processor": "B"}, "processor was A, is B"), ({"blas_kernel": None}, "blas_kernel was k, is None"),
    ({"cores": 64}, "cores was 2, is 64"),
    ({"load_average": 1.5}, "the machine was busy now: load average 1.5 on 2 cores"),
])
def test_other_machines_and_busy_ones_are_warned_of(change, words):
    assert [line for line in compare.warnings(result(1.0), result(1.0)) if line] == []
    (line,) = compare.warnings(result(1.0), result(1.0, MACHINE | change))
    assert line.startswith("  warning: ") and words in line


def test_a_file_that_is_no_result_is_named(tmp_path):
    texts = {"a": "{", "b": "[]", "c": '{"figures": [{"name": "x"}]}', "d": '{"figures": []}'}
    for name, text in texts.items():
        path = tmp_path / f"{name}.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=f"{name}.json: is no result of a benchmark.* A result is a file that "):
            record.read(path)


def test_the_table_has_a_row_a_figure_and_says_where_it_was_measured():
    rows = compare.table([result(1.23456), result(2.0)]).splitlines()
    assert rows[2] == "| load | 1.23 s | `python -m tools.bench.made_up` |"
    assert rows[3].startswith("| load | 2 s |")
    assert rows[4:] == ["", "- made_up: 2026-01-02, A, 2 cores, 8.0 GiB, b 1 (k), NumPy 2, Python 3.11. "
                        "Load average 0.1: the machine was idle.",
                        "- made_up: 2026-01-02, A, 2 cores, 8.0 GiB, b 1 (k), NumPy 2, Python 3.11. "
                        "Load average 0.1: the machine was idle."]


def test_every_kept_result_can_be_read():
    for bench in compare.names(record.RESULTS):
        assert record.kept(bench)
