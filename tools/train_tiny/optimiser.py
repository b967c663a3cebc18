"""All numbers of a training run in one flat, shared buffer, and the two rules that move them.

Muon (momentum, then the nearest orthogonal matrix by five Newton-Schulz steps) for the matrices inside the blocks,
AdamW for the rest. Two worker processes share the buffers: each adds up the gradient of its half batch in its own, then
each moves half of the parameters by the mean of both. There is nothing to send and nothing to keep in step.

Sources: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); Loshchilov and Hutter,
"Decoupled weight decay regularization" (2019).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

WORKERS = 2
DECAY, MOMENTUM, BETAS, CLIP = 0.02, 0.95, (0.9, 0.98), 1.0
KEEP = 0.998                                              # of the average of weights, a step
FAST_HALVES = torch.cpu._is_avx512_bf16_supported()       # without such instructions bfloat16 is ten times slower
ORDER = ("dense", "bare", "matrix")                       # AdamW with decay, AdamW without, Muon


def rule_of(name: str, p: torch.Tensor) -> str:
    if p.ndim < 2:
        return "bare"
    outer = "embed_tokens" in name or "merger.mlp.0" in name or "patch_embed" in name or name.startswith("heads.")
    return "dense" if outer else "matrix"


class Flat:
    """Parameters of a network as views into one buffer, sorted by rule; gradients, moments and the average alike.

    workers: how many processes share it; one on a device that is no CPU, where nothing is shared.
    """

    def __init__(self, network: nn.Module, workers: int = WORKERS):
        named = sorted(network.named_parameters(), key=lambda item: ORDER.index(rule_of(*item)))
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        sizes = [p.numel() for p in self.parameters]
        self.offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        self.values, self.first, self.second, self.average = (self._buffer(sum(sizes)) for _ in range(4))
        self.gradients = [self._buffer(sum(sizes)) for _ in range(workers)]
        for p, view in zip(self.parameters, self.views(self.values), strict=True):
            view.copy_(p.data)
            p.data = view
        self.average.copy_(self.values)

    def _buffer(self, size: int) -> torch.Tensor:
        buffer = torch.zeros(size, device=self.parameters[0].device)
        return buffer.share_memory_() if buffer.device.type == "cpu" else buffer

    def views(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        return [buffer[at:at + p.numel()].view(p.shape) for at, p in zip(self.offsets, self.parameters, strict=True)]

    def collect_in(self, worker: int) -> None:
        """Let this process's gradients be added up in the worker's buffer."""
        for p, view in zip(self.parameters, self.views(self.gradients[worker]), strict=True):
            p.grad = view

    def state(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name).clone() for name in ("values", "first", "second", "average")}

    def state_of_average(self) -> dict[str, torch.Tensor]:
        """The average of the weights as a state of the network, on the CPU, with the matrix that is tied."""
        found = dict(zip(self.names, (view.clone().cpu() for view in self.views(self.average)), strict=True))
        return found | {"model.lm_head.weight": found["model.model.language_model.embed_tokens.weight"]}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        for name, buffer in state.items():
            getattr(self, name).copy_(buffer)


class Mover:
    """One worker's half of the parameters that are trained, and how they move."""

    def __init__(self, flat: Flat, worker: int, trained: Iterable[str], halves: bool = FAST_HALVES):
        self.halves = halves                              # bfloat16 inside of `orthogonal`
        self.flat, self.workers, trained = flat, len(flat.gradients), set(trained)
        chosen = [i for i, name in enumerate(flat.names) if name in trained]
        rules = {i: rule_of(flat.names[i], flat.parameters[i]) for i in chosen}
        self.plain = [i for i in chosen if rules[i] != "matrix"][worker::self.workers]
        self.decayed = {i for i in chosen if rules[i] == "dense"}
        self.stacks: dict[tuple[int, ...], list[int]] = {}
        for i in chosen:
            if rules[i] == "matrix":
                self.stacks.setdefault(tuple(flat.parameters[i].shape), []).append(i)
        self.stacks = {shape: members[worker::self.workers] for shape, members in self.stacks.items()}
        self.mine = [*self.plain, *(i for members in self.stacks.values() for i in members)]
        views = [flat.views(b) for b in (flat.values, flat.average, flat.first, flat.second, *flat.gradients)]
        self.values, self.average, self.first, self.second, *self.gradients = views

    @torch.no_grad()
    def move(self, step: int, since: int, matrix_rate: float, plain_rate: float) -> None:
        """step: of the phase, from 1; the average begins with it, so that a short phase counts. since: the step at
        which the moments began, for the bias of AdamW's."""
        for i in self.plain:
            self._adam(i, step - since, plain_rate)
        for members in self.stacks.values():
            if members:
                self._muon(members, matrix_rate)
        keep = min(KEEP, step / (10 + step))              # the first steps of a run weigh less
        for i in self.mine:
            self.average[i].lerp_(self.values[i], 1 - keep)

    def _gradient(self, i: int) -> torch.Tensor:
        return sum(g[i] for g in self.gradients) / self.workers             # type: ignore[return-value]

    def _adam(self, i: int, step: int, rate: float) -> None:
        p, m, v, g = self.values[i], self.first[i], self.second[i], self._gradient(i)
        g = g * min(1.0, CLIP / (float(g.norm()) + 1e-6))
        m.lerp_(g, 1 - BETAS[0])
        v.lerp_(g * g, 1 - BETAS[1])
        size = (v / (1 - BETAS[1]**step)).sqrt_().add_(1e-8)
        if i in self.decayed:
            p.mul_(1 - rate * DECAY)
        p.addcdiv_(m, size, value=-rate / (1 - BETAS[0]**step))

    def _muon(self, members: list[int], rate: float) -> None:
        gradients = torch.stack([self._gradient(i) for i in members])
        momenta = torch.stack([self.first[i] for i in members]).lerp_(gradients, 1 - MOMENTUM)
        update = orthogonal(gradients.lerp(momenta, MOMENTUM), self.halves)
        reach = 0.2 * max(update.shape[1:]) ** 0.5        # an update as large as AdamW's would be
        for i, momentum, u in zip(members, momenta, update, strict=True):
            self.first[i].copy_(momentum)
            self.values[i].mul_(1 - rate * DECAY).add_(u, alpha=-rate * reach)


def orthogonal(stack: torch.Tensor, halves: bool = FAST_HALVES) -> torch.Tensor:
    """Matrices (n, o, i) with their singular values pushed towards one: an odd polynomial, five times."""
    tall = stack.shape[1] > stack.shape[2]
    x = stack.transpose(1, 2) if tall else stack
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if halves or x.is_cuda else x
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=-4.775, alpha=2.0315), x, beta=3.4445)
    return (x.transpose(1, 2) if tall else x).float()
