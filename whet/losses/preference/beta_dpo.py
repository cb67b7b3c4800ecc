"""β-DPO: a β for every step, and outliers left out (Wu et al. 2024, arXiv:2407.08639).

    M = β₀ D, without gradient        M₀, s: running mean and deviation of M, factor m, this step's included
    kept: int((1 − filter) · N) pairs, drawn without replacement in proportion to exp(−½ ((M − M₀) / s)²)
    β = max(β₀ (1 + a (mean M of the kept − M₀)), 0.001), a constant
    L = −log σ(β D) of the kept pairs        D as in DPO, of sums

A step whose pairs are told apart more easily than usual gets a larger β, which trusts it less; pairs far from the
middle are taken for noise. The mean is over kept pairs: their values are multiplied by N / kept, the others are 0 (no
gradient, though they count in M₀ and s). At least one is kept. Values depend on the whole step, over all processes.
M₀, s and the number of steps go from step to step and into checkpoints; the draw follows from that number alone, so a
resumed run draws the same. `a` = 0 and `filter` = 0 are DPO.
The authors' code differs: M is D without β₀ (`gap="logratio"`, so `a` means 1/β₀ times as much), the averages begin at
0 (`start="zero"`: for the first ten or twenty steps s is far too small, so hardly a pair but the nearest to M₀ has a
chance; here both are corrected for it, as Adam's moments are), held-out pairs move them too, its released settings have
a = 0, and each process divides by how many of its own pairs are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.dpo import logistic
from whet.losses.terms import Responses

LEAST = 1e-3
"""The smallest β: below, a step of unusually small gaps would turn the loss round."""
ROUNDING = 1e-9
"""(1 − 0.9) · 10 is a little less than 1."""


@preference_loss(
    needs={"logprobs", "reference"},
    couples="step",
    carries=True,
    breaks={"at_equal_margins_chosen_rises_and_rejected_falls": "a pair that the filter leaves out has no gradient"},
)
def beta_dpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    a: Annotated[float, Field(ge=0)] = 0.6,
    filter: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    gap: Literal["reward", "logratio"] = "reward",
    start: Literal["corrected", "zero"] = "corrected",
) -> tuple[Tensor, dict[str, Tensor]]:
    """DPO's loss with the step's own β on the pairs that are kept, per pair; and what is carried on.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0, -8.0]), anchor=tensor([-10.0] * 2), length=tensor([5.0] * 2))
    >>> l = Responses(policy=tensor([-11.0, -12.0]), anchor=tensor([-10.0] * 2), length=tensor([5.0] * 2))
    >>> values, carried = beta_dpo(w, l, filter=0.0)                    # D = 2, 4; the first step's M₀ is its mean
    >>> [f"{x:.6f}" for x in values.tolist()], f"{carried['beta'].item():.2f}"
    (['0.598139', '0.513015'], '0.10')
    >>> later, _ = beta_dpo(w, l, filter=0.0, momentum=0.5, gap="logratio", start="zero")            # M = 3, M₀ = 1.5
    >>> f"{later[0].item():.6f}"                                                           # β = 0.1 (1 + 0.6 · 1.5)
    '0.521090'
    """
    difference = chosen.logratio("sum") - rejected.logratio("sum")
    here = difference.detach() * (beta if gap == "reward" else 1.0)
    carried = running(here, chosen.carried, momentum=momentum)
    mean, deviation = middle(carried, momentum=momentum if start == "corrected" else 0.0)
    count = max(1, int((1 - filter) * len(here) + ROUNDING))
    kept = drawn(here, mean, deviation, count=count, seed=int(carried["steps"]))
    own = (beta * (1 + a * (here[kept].mean() - mean))).clamp(min=min(LEAST, beta))
    values = logistic(own * difference, 0.0) * (len(here) / count)
    return torch.where(kept, values, torch.zeros_like(values)), {**carried, "beta": own, "kept": kept.sum()}


def running(here: Tensor, before: Mapping[str, Tensor], *, momentum: float) -> dict[str, Tensor]:
    """Running mean and deviation as they are carried, from 0 on, and the number of steps in them.

    >>> first = running(torch.tensor([1.0, 3.0]), {}, momentum=0.5)
    >>> {name: round(x.item(), 4) for name, x in running(torch.tensor([5.0]), first, momentum=0.5).items()}
    {'mean': 3.0, 'std': 0.3536, 'steps': 2}
    """

    def moved(name: str, value: Tensor) -> Tensor:
        return momentum * before.get(name, torch.zeros_like(value)) + (1 - momentum) * value

    deviation = here.std(correction=min(1, len(here) - 1))
    steps = before.get("steps", torch.zeros((), dtype=torch.long)) + 1
    return {"mean": moved("mean", here.mean()), "std": moved("std", deviation), "steps": steps}


def middle(carried: Mapping[str, Tensor], *, momentum: float) -> tuple[Tensor, Tensor]:
    """Mean and deviation of what is carried, corrected for having begun at 0; with momentum 0 there is nothing to do.

    >>> carried = running(torch.tensor([1.0, 3.0]), {}, momentum=0.9)
    >>> [f"{x.item():.4f}" for x in middle(carried, momentum=0.9)]
    ['2.0000', '1.4142']
    """
    share = 1 - momentum ** int(carried["steps"])
    return carried["mean"] / share, carried["std"] / share


def drawn(here: Tensor, mean: Tensor, deviation: Tensor, *, count: int, seed: int) -> Tensor:
    """Which pairs are kept: `count` of them, without replacement, by the density of a normal distribution at each.

    The largest of log-density plus Gumbel noise: the same draw, and finite however far away all of them are.

    >>> drawn(torch.tensor([0.0, 90.0, 1.0]), torch.tensor(0.0), torch.tensor(1.0), count=2, seed=1).tolist()
    [True, False, True]
    """
    far = (here - mean) / deviation.clamp(min=torch.finfo(here.dtype).tiny)
    uniform = torch.rand(len(here), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = -(-uniform.log()).log()
    best = (noise.to(here.device) - 0.5 * far.double().square()).topk(count).indices
    return torch.zeros_like(here, dtype=torch.bool).index_fill(0, best, True)
