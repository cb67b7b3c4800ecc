"""ORPO: odds-ratio preference optimisation, no reference (Hong et al. 2024, arXiv:2403.07691, eq. 6 and 7).

    p = exp(mean log π(y))     odds = p / (1 − p)
    L = NLL(y_w) − lam · log σ(log odds(y_w) − log odds(y_l))

This function is the second summand; the first is declared beside it (coefficient 1, the chosen response's counted
tokens, token mean), from the same forward. The authors' code counts the prompt's tokens in the NLL too unless told
otherwise; here only counted tokens do. A mean log-probability above −`CERTAIN` is held there, where the odds would
leave float32: a response that certain has no gradient from this term.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses

CERTAIN = 1e-6


@preference_loss(needs={"logprobs"}, beside={"nll": 1.0})
def orpo(chosen: Responses, rejected: Responses, *, lam: Annotated[float, Field(ge=0)] = 0.1) -> Tensor:
    """lam times the logistic loss of the log odds ratio, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=4 * tensor([0.5]).log(), length=tensor([4.0]))
    >>> l = Responses(policy=7 * tensor([0.25]).log(), length=tensor([7.0]))
    >>> f"{orpo(w, l, lam=1.0).item():.6f}"                           # odds 1 and 1/3: log 3, −log σ(log 3)
    '0.287682'
    """
    ratio = _log_odds(chosen.logprob("mean")) - _log_odds(rejected.logprob("mean"))
    return -lam * F.logsigmoid(ratio)


def _log_odds(logprob: Tensor) -> Tensor:
    """log(p / (1 − p)) of log p; −expm1 keeps the digits of 1 − p that 1 − exp(log p) would lose.

    >>> import torch
    >>> [f"{x:.4f}" for x in _log_odds(torch.tensor([0.5, 0.75]).log()).tolist()]
    ['0.0000', '1.0986']
    """
    bounded = logprob.clamp(max=-CERTAIN)
    return bounded - (-bounded.expm1()).log()
