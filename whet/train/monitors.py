"""What people watch while a model learns, one function per shelf; names are TRL's where the meaning is the same.

| metric                          | meaning                                                                  |
|---------------------------------|--------------------------------------------------------------------------|
| rewards/chosen, rewards/rejected| mean log π − log π_ref (or log π without a reference) of each side        |
| rewards/margins                 | their difference                                                         |
| rewards/accuracies              | share of pairs with the chosen side ahead (ties count ½)                  |
| logps/chosen, logps/rejected    | mean summed log-probability                                              |
| score/mean, score/std           | of a reward model's outputs                                              |
| accuracy                        | share of pairs a reward model orders right (ties count ½)                 |
| clip_ratio/low, clip_ratio/high | share of tokens whose ratio is below 0.8 or above 1.2                     |
| ratio/max                       | largest ratio                                                            |
| kl/old                          | mean k3 estimate of KL(π_old ‖ π) over tokens                             |
| sampler/max_difference          | largest abs(log π_train − log π_sampler); exact before a step's first update |
| mean_token_nll                  | mean −log π of counted tokens                                            |
"""

from __future__ import annotations

import torch
from torch import Tensor

from whet.losses.terms import Responses, Views, log_ratio, on_pairs
from whet.metrics import Max, Mean, Metric, Std


def mean(values: Tensor) -> Mean:
    """The mean of a tensor as a metric that merges exactly.

    >>> mean(torch.tensor([1.0, 3.0])).value()
    2.0
    """
    return Mean(float(values.double().sum()), values.numel())


def std(values: Tensor) -> Std:
    """The spread of a tensor as a metric that merges exactly."""
    return Std.of_values(values.double().tolist())


def watch_tokens(views: Views) -> dict[str, Metric]:
    """Likelihood of counted tokens."""
    return {"mean_token_nll": mean(-views.token["logprobs"])}


def watch_policy(views: Views) -> dict[str, Metric]:
    """Ratios between the policy that learns and the one that sampled."""
    ratio = log_ratio(views)
    out: dict[str, Metric] = {
        "clip_ratio/low": mean((ratio.exp() < 0.8).double()),
        "clip_ratio/high": mean((ratio.exp() > 1.2).double()),
        "ratio/max": Max(float(ratio.max().exp())) if ratio.numel() else Max(1.0),
        "kl/old": mean((-ratio).exp() - 1 + ratio),
    }
    if "sampled" in views.batch.token:
        difference = (views.token["logprobs"] - views.batch.token["sampled"]).abs()
        out["sampler/max_difference"] = Max(float(difference.max()) if difference.numel() else 0.0)
    if "entropy" in views.token:
        out["entropy"] = mean(views.token["entropy"])
    return out


def watch_pairs(views: Views) -> dict[str, Metric]:
    """Implicit rewards of a preference loss."""
    chosen, rejected = on_pairs(views)
    good, bad = _implicit(chosen), _implicit(rejected)
    return {
        "rewards/chosen": mean(good),
        "rewards/rejected": mean(bad),
        "rewards/margins": mean(good - bad),
        "rewards/accuracies": mean(_ahead(good - bad)),
        "logps/chosen": mean(chosen.logprob("sum")),
        "logps/rejected": mean(rejected.logprob("sum")),
    }


def watch_ratings(views: Views) -> dict[str, Metric]:
    """Implicit rewards of labelled responses."""
    responses = views.responses()
    label = responses.col["label"]
    matched = responses.col.get("mismatched", torch.zeros_like(label)) == 0
    implicit = _implicit(responses)
    return {
        "rewards/chosen": mean(implicit[matched & (label > 0)]),
        "rewards/rejected": mean(implicit[matched & (label <= 0)]),
    }


def watch_scores(views: Views) -> dict[str, Metric]:
    """A reward model's outputs on pairs."""
    chosen, rejected = on_pairs(views)
    good, bad = chosen.scores(), rejected.scores()
    both = torch.cat([good, bad])
    return {
        "accuracy": mean(_ahead(good - bad)),
        "rewards/margins": mean(good - bad),
        "score/mean": mean(both),
        "score/std": std(both),
    }


def watch_labels(views: Views) -> dict[str, Metric]:
    """A process reward model's step scores."""
    score, label = views.label["step_score"], views.batch.label["label"]
    return {"accuracy": mean(((score > 0) == (label > 0.5)).double()), "score/mean": mean(score)}


def watch_values(views: Views) -> dict[str, Metric]:
    """A critic's values against their targets; explained variance is 1 − var(target − value) / var(target)."""
    value, target = views.token["value"], views.batch.token["target"]
    return {"value/mean": mean(value), "value/target": mean(target), "value/error": mean((value - target) ** 2)}


def _implicit(responses: Responses) -> Tensor:
    return responses.logprob("sum") if responses.anchor is None else responses.logratio("sum")


def _ahead(margin: Tensor) -> Tensor:
    return (margin > 0).double() + 0.5 * (margin == 0).double()
