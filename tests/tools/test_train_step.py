"""What each saving of a training step gives (`tools/bench/train_step.py`): undone, the step says the same."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tools.bench import train_step
from tools.bench.train_step import KINDS, UNDONE, by_own_functions
from tools.train_tiny import fused, network
from tools.train_tiny import train as training
from tools.train_tiny.packing import Packer
from tools.train_tiny.phases import PHASES
from tools.train_tiny.tokens import load_tokenizer
from tools.train_tiny.train import Run, pool


@pytest.fixture
def run_of(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "ROUND", False)
    monkeypatch.setattr(training, "FAST_HALVES", False)

    def made(kind):
        phase = PHASES[KINDS[kind]]
        run = Run(phase, tmp_path / kind, None, phase.steps, 16, 1)
        run.flat.collect_in(0)
        return run
    return made


@pytest.mark.parametrize("name", UNDONE)
def test_a_saving_that_is_undone_leaves_losses_and_gradients_and_costs_more(name, run_of, monkeypatch):
    """More is counted: numbers that products of the network take, or looks of the tower."""
    kinds, step, changed = UNDONE[name]
    assert set(kinds) <= set(KINDS)
    work, losses = [0], []
    product, see, half = fused.product, fused.see, train_step.half_step
    monkeypatch.setattr(fused, "product", lambda a, b: work.__setitem__(0, work[0] + a.numel()) or product(a, b))
    monkeypatch.setattr(fused, "see", lambda lean, b: work.__setitem__(0, work[0] + 1) or see(lean, b))
    monkeypatch.setattr(train_step, "half_step", lambda run, given: losses.append(half(run, given)))
    run = run_of(kinds[-1])
    drawn = pool(run.phase, 0, 5, Packer(load_tokenizer()), run.batch)
    found = []
    for steps, around in ((by_own_functions, nullcontext), (step, changed)):
        run.kept.clear()
        run.flat.gradients[0].zero_()
        losses.clear()
        work[0] = 0
        with around():
            steps(run, 0, drawn)
        found.append((list(losses), run.flat.gradients[0].clone(), work[0]))
    (own, gradients, least), (other, others, more) = found
    assert len(own) == len(other) == len(drawn) and more > least
    for one, two in zip(own, other, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert float((gradients - others).abs().max()) <= 1e-4 * float(gradients.abs().max())
