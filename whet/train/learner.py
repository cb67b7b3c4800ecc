"""A model with what trains it: optimizer, schedule, terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from whet.losses.terms import Term
from whet.models.policy import Decoder
from whet.train.config import OptimConfig
from whet.train.optim import AdamW
from whet.train.receive import check_keys, load_optimizer, load_tensors

Schedule = Callable[[int], float]


def schedule(config: OptimConfig, *, total: int) -> Schedule:
    """Learning rate of optimizer step 0, 1, …: linear warm-up, then constant, or down to 0 at `total`.

    >>> rate = schedule(OptimConfig(lr=1.0, schedule="linear", warmup=2), total=6)
    >>> [rate(step) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """

    def rate(step: int) -> float:
        if step < config.warmup:
            return config.lr * (step + 1) / config.warmup
        done = min(1.0, (step - config.warmup) / max(1, total - config.warmup))
        if config.schedule == "linear":
            return config.lr * (1.0 - done)
        if config.schedule == "cosine":
            return config.lr * 0.5 * (1.0 + math.cos(math.pi * done))
        return config.lr

    return rate


@dataclass(slots=True, kw_only=True)
class Learner:
    """A model that learns: its terms say from what, `ticks` counts its optimizer steps."""

    model: Decoder
    terms: tuple[Term, ...]
    optimizer: AdamW
    schedule: Schedule
    clip: float
    ticks: int = 0

    @classmethod
    def of(cls, model: Decoder, terms: Sequence[Term], config: OptimConfig, *, total: int, seed: int = 0) -> Learner:
        """A learner for all trainable parameters of a model; `total` optimizer steps are planned.

        `seed` draws the noise of whatever the optimizer rounds by chance.
        """
        return cls(
            model=model,
            terms=tuple(terms),
            optimizer=AdamW(model.named_parameters(), config, seed=seed),
            schedule=schedule(config, total=total),
            clip=config.clip,
        )

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @property
    def needs(self) -> frozenset[str]:
        """What one forward must compute for all terms."""
        return frozenset().union(*(term.needs for term in self.terms))

    def tick(self) -> float:
        """One optimizer step at the scheduled rate; returns the rate. No gradient stays while the next step is made."""
        rate = self.schedule(self.ticks)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ticks += 1
        return rate

    def state(self) -> dict[str, Any]:
        """The trained parameters, the optimizer's moments, the place in the schedule, and what terms carry."""
        state = {"model": self._trained(), "optimizer": self.optimizer.state_dict(), "ticks": self.ticks}
        return state | ({"carried": self._carried()} if self._carriers() else {})

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take all of it back; what does not fit in names, shapes or types is a `CheckpointError`."""
        carriers = self._carriers()
        check_keys("the state of a learner", set(state), {"model", "optimizer", "ticks", *["carried"][: len(carriers)]})
        check_keys("what the terms of a learner carry", set(state.get("carried", {})), {term.name for term in carriers})
        load_tensors(self._trained(), state["model"], what="the model")
        load_optimizer(self.optimizer, state["optimizer"])
        self.ticks = int(state["ticks"])
        for term in carriers:
            term.carry(state["carried"][term.name])

    def _carriers(self) -> list[Term]:
        return [term for term in self.terms if term.carried is not None]

    def _carried(self) -> dict[str, dict[str, torch.Tensor]]:
        return {term.name: dict(term.carried) for term in self._carriers() if term.carried is not None}

    def _trained(self) -> dict[str, torch.Tensor]:
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
