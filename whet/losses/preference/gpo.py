"""GPO: DPO's margin under any of six link functions (Tang et al. 2024, arXiv:2402.05749, table 1).

    z = β (log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l))        L = f(z)

    logistic             log(1 + e^−z)       DPO
    exponential          e^−z
    hinge                max(0, 1 − z)       RSO's hinge; SLiC without its regulariser
    squared              (1 − z)²            β² times IPO at half of β
    truncated_quadratic  max(0, 1 − z)²
    savage               1 / (1 + e^z)²      not convex: a pair that is far wrong teaches little

All fall at z = 0, and what they ask beyond is their difference: how far f rises on the right holds π near the
reference. Compare them at their own best β, since f''(0)/f'(0) sets how strongly each regularises.
The exponential grows without measure on mislabelled pairs: where −z is above `STEEPEST` its tangent there goes on, so
that loss and gradient stay finite and the gradient keeps its direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses

Link = Literal["logistic", "exponential", "hinge", "squared", "truncated_quadratic", "savage"]

STEEPEST = 20.0
"""The largest x at which e^x is taken itself; its slope there, 4.9e8, is the largest there is."""


@preference_loss(needs={"logprobs", "reference"})
def gpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    link: Link = "logistic",
) -> Tensor:
    """A link function of β times the difference of log-ratios, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> {link: round(gpo(w, l, link=link).item(), 6) for link in ("exponential", "hinge", "squared", "savage")}
    {'exponential': 0.818731, 'hinge': 0.8, 'squared': 0.64, 'savage': 0.202649}
    """
    return LINKS[link](beta * (chosen.logratio("sum") - rejected.logratio("sum")))


def tangent_beyond(x: Tensor) -> tuple[Tensor, Tensor]:
    """(x up to `STEEPEST`, what the tangent of e^x at `STEEPEST` adds beyond it).

    >>> from torch import tensor
    >>> inside, beyond = tangent_beyond(tensor([1.0, 22.0]))
    >>> inside.tolist(), [f"{b:.3e}" for b in beyond.tolist()]                           # 2 · e^20
    ([1.0, 20.0], ['0.000e+00', '9.703e+08'])
    """
    return x.clamp(max=STEEPEST), math.exp(STEEPEST) * (x - STEEPEST).relu()


def _exponential(z: Tensor) -> Tensor:
    inside, beyond = tangent_beyond(-z)
    return inside.exp() + beyond


LINKS: Mapping[Link, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "logistic": lambda z: -F.logsigmoid(z),
        "exponential": _exponential,
        "hinge": lambda z: (1 - z).relu(),
        "squared": lambda z: (1 - z).square(),
        "truncated_quadratic": lambda z: (1 - z).relu().square(),
        "savage": lambda z: (-z).sigmoid().square(),
    }
)
