"""AdamW that fits: moments in fewer bytes, and bfloat16 weights that keep updates too small for them.

    m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²
    w ← w − lr (m / (1 − β1ᵗ) / (√(v / (1 − β2ᵗ)) + ε) + decay · w)

PyTorch's own function does the arithmetic, always in float32 (float64 for float64 weights): fused in one pass over
memory, or the plain one. What is kept narrower is widened a chunk at a time and narrowed again (`optim_bits`). Bytes
per weight beside the weight and its float32 gradient:

    moments     float32 8     bfloat16 4     8bit 2.03
    weights     float32 0     bfloat16, master 2     bfloat16, stochastic 0

Kingma and Ba 2015, arXiv:1412.6980; Loshchilov and Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from whet.errors import ConfigError
from whet.rollout.noise import seed_of
from whet.train.config import OptimConfig
from whet.train.optim_bits import BLOCK, blocks, decode, encode, join, lane, rounded, split, words
from whet.types import NoiseKey

WIDE = (torch.float32, torch.float64)
SMALL = 4096
"""Parameters of fewer numbers (norms, biases) keep float32 moments: they cost nothing."""
CHUNK = {"cpu": 1 << 16}
"""Numbers widened at once, by device type; more off the CPU, where every call has its price."""
ELSEWHERE = 1 << 23
assert all(size % BLOCK == 0 for size in (*CHUNK.values(), ELSEWHERE))


class AdamW(torch.optim.Optimizer):
    """AdamW over named parameters; decay spares everything of fewer than two dimensions (norms, biases).

    bfloat16 parameters get float32 gradients, so that what micro-batches add is not rounded away either. The noise of
    stochastic rounding follows from (seed, step, name) alone. `ConfigError` for an option that nothing would look at.
    """

    def __init__(self, named: Iterable[tuple[str, torch.nn.Parameter]], config: OptimConfig, *, seed: int = 0) -> None:
        self._moments, self._weights, self._fused = config.moments, config.bfloat16_weights, config.fused
        self._seed = seed
        trained = [(name, p) for name, p in named if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [(name, p) for name, p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [(name, p) for name, p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        defaults = {"lr": config.lr, "betas": config.betas, "eps": config.eps, "tick": 0}
        super().__init__([group for group in groups if group["params"]], defaults)
        self._refuse_idle([p for _, p in trained])
        for _, p in trained:
            if p.dtype not in WIDE:
                p.grad_dtype = torch.float32

    def _refuse_idle(self, parameters: list[torch.nn.Parameter]) -> None:
        assert all(p.is_contiguous() and p.dtype in (*WIDE, torch.bfloat16) for p in parameters)
        if self._weights == "stochastic" and all(p.dtype in WIDE for p in parameters):
            raise ConfigError(
                "optim.bfloat16_weights=stochastic rounds bfloat16 weights, but what trains here is float32 (so is an "
                "adapter always): leave it out, or set model.dtype=bfloat16"
            )
        if self._moments == "8bit" and all(p.numel() < SMALL for p in parameters):
            raise ConfigError(
                f"optim.moments=8bit shrinks parameters of {SMALL} numbers or more, and this model trains none: leave "
                "it out"
            )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]: takes no closure
        """One step at every group's `lr`; parameters without a gradient stay as they are."""
        for group in self.param_groups:
            named = zip(group["param_names"], group["params"], strict=True)
            moved = [(name, p, self._state(p)) for name, p in named if p.grad is not None]
            at_once = [(p, state) for _, p, state in moved if self._in_place(p, state)]
            self._adamw(
                group,
                [p.detach().view(-1) for p, _ in at_once],
                [_gradient(p) for p, _ in at_once],
                [state["exp_avg"].view(-1) for _, state in at_once],
                [state["exp_avg_sq"].view(-1) for _, state in at_once],
                [state["step"] for _, state in at_once],
            )
            for name, p, state in moved:
                if not self._in_place(p, state):
                    self._in_chunks(group, name, p, state)
            group["tick"] += 1

    def held(self, p: torch.nn.Parameter) -> Tensor:
        """The weights as they are trained, at least float32: a bfloat16 parameter's master, or the parameter itself."""
        stored = {"weight": p.detach(), **self.state.get(p, {})}
        return _widened(stored, "weight", slice(None)).view(p.shape)

    def shapes(self, p: torch.nn.Parameter) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type of all that is kept for a parameter: what a checkpoint of it must hold."""
        wide = p.dtype if p.dtype in WIDE else torch.float32
        out = {"step": (torch.Size(()), torch.float32)}
        eight = self._moments == "8bit" and p.numel() >= SMALL
        kinds = {"float32": (wide, wide), "bfloat16": (torch.bfloat16, torch.bfloat16), "8bit": (wide, wide)}
        first, second = (torch.int8, torch.uint8) if eight else kinds[self._moments]
        out |= {"exp_avg": (p.shape, first), "exp_avg_sq": (p.shape, second)}
        if eight:
            scales = torch.Size((blocks(p.numel()),)), torch.float32
            out |= {"exp_avg_scale": scales, "exp_avg_sq_scale": scales}
        if p.dtype not in WIDE and self._weights == "master":
            out["weight_rest"] = p.shape, torch.int16
        return out

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state back in its own types, which PyTorch would cast to the parameters'."""
        super().load_state_dict({**state_dict, "state": {}})
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, saved in state_dict["state"].items():
            mine = self._state(parameters[index])
            for name, value in saved.items():
                mine[name].copy_(value)

    def _state(self, p: torch.nn.Parameter) -> dict[str, Tensor]:
        """What is kept for a parameter, all 0 at first."""
        state: dict[str, Tensor] = self.state[p]
        if not state:
            for name, (shape, dtype) in self.shapes(p).items():
                there = p.device if name != "step" or self._fused else torch.device("cpu")
                state[name] = torch.zeros(shape, dtype=dtype, device=there)
        return state

    def _in_place(self, p: torch.nn.Parameter, state: Mapping[str, Tensor]) -> bool:
        return p.dtype == state["exp_avg"].dtype and p.dtype in WIDE

    def _in_chunks(
        self, group: Mapping[str, Any], name: str, p: torch.nn.Parameter, state: Mapping[str, Tensor]
    ) -> None:
        key = NoiseKey(seed=self._seed, stream="optimizer", step=group["tick"], task=name)
        stored, gradient, seed = {"weight": p.detach(), **state}, _gradient(p), seed_of(key)
        kept = ("weight", "exp_avg", "exp_avg_sq")
        by_chance = any(stored[k].dtype not in WIDE and f"{k}_rest" not in stored for k in kept)
        size = CHUNK.get(p.device.type, ELSEWHERE)
        for start in range(0, p.numel(), size):
            rows = slice(start, min(start + size, p.numel()))
            wide = {k: _widened(stored, k, rows) for k in kept}
            every = [[wide["weight"]], [gradient[rows]], [wide["exp_avg"]], [wide["exp_avg_sq"]]]
            self._adamw(group, *every, [state["step"].clone()])
            noise = words(seed, start, rows.stop - start, p.device) if by_chance else None
            for k in kept:
                _narrow(stored, k, rows, wide[k], noise)
        state["step"].add_(1)

    def _adamw(self, group: Mapping[str, Any], *lists: list[Tensor]) -> None:
        """PyTorch's function over lists of weights, gradients, first and second moments, and step counts, in place."""
        weights, gradients, first, second, steps = lists
        adamw(
            weights,
            gradients,
            first,
            second,
            [],
            steps,
            foreach=False,
            fused=self._fused,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _gradient(p: torch.nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad.reshape(-1).to(p.dtype if p.dtype in WIDE else torch.float32)


def _widened(stored: Mapping[str, Tensor], key: str, rows: slice) -> Tensor:
    """Some of a parameter's numbers in at least float32: a view where they are kept so, else a copy."""
    own = stored[key].view(-1)[rows]
    if f"{key}_rest" in stored:
        return join(own, stored[f"{key}_rest"].view(-1)[rows])
    if f"{key}_scale" in stored:
        own = decode(own, stored[f"{key}_scale"][_scales(rows)])
    return own.to(stored["weight"].dtype if stored["weight"].dtype in WIDE else torch.float32)


def _narrow(stored: Mapping[str, Tensor], key: str, rows: slice, wide: Tensor, noise: Tensor | None) -> None:
    """Put widened numbers back into how they are kept."""
    own = stored[key].view(-1)[rows]
    if own.dtype in WIDE:
        return  # widened to itself
    wide = wide.float()
    if f"{key}_rest" in stored:
        near, rest = split(wide)
        stored[f"{key}_rest"].view(-1)[rows].copy_(rest)
        own.copy_(near)
        return
    assert noise is not None
    if f"{key}_scale" in stored:
        near, scale = encode(wide, lane(noise, key, 20), signed=own.dtype == torch.int8)
        stored[f"{key}_scale"][_scales(rows)].copy_(scale)
    else:
        near = rounded(wide, lane(noise, key, 16))
    own.copy_(near)


def _scales(rows: slice) -> slice:
    return slice(rows.start // BLOCK, blocks(rows.stop))
