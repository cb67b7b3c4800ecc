"""SLiC-HF: a hinge on log-probabilities and a pull towards the chosen answer, no reference (Zhao et al. 2023,
arXiv:2305.10425).

    L = max(0, delta − log π(y_w) + log π(y_l)) − lam log π(y_w)

The second summand keeps the model near what it is to imitate; the paper takes it on the target of supervised
fine-tuning or on the best-ranked sample, here it is the chosen answer. Within the margin the gradient is constant, and
beyond it only the second summand is left. Log-probabilities are sums over the answer (`reduce="mean"` averages both).
TRL's loss "hinge" is another method, RSO's hinge with a reference: `rso_hinge`. The defaults of delta and lam are those
of HALOs; the paper tunes them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses
from whet.types import Reduce


@preference_loss(needs={"logprobs"})
def slic_hf(
    chosen: Responses,
    rejected: Responses,
    *,
    delta: Annotated[float, Field(gt=0)] = 1.0,
    lam: Annotated[float, Field(ge=0)] = 0.1,
    reduce: Reduce = "sum",
) -> Tensor:
    """Hinge of the log-probabilities' difference, minus lam times the chosen one's, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-9.5]), length=tensor([5.0]))
    >>> f"{slic_hf(w, l).item():.4f}", f"{slic_hf(w, l, delta=0.5).item():.4f}"         # 1 − 0.5 + 0.9; only 0.9
    ('1.4000', '0.9000')
    """
    good, bad = chosen.logprob(reduce), rejected.logprob(reduce)
    return (delta - good + bad).relu() - lam * good
