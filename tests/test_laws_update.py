"""Split invariance through the optimizer step, for every loss on every shelf: found by discovery (T8, I06)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch
from test_step import Made, gradients, named, online_config

from whet.batch import Tree
from whet.build.terms import KINDS, online_terms
from whet.losses import (
    kl_estimator,
    policy_objective,
    preference_loss,
    ranking_loss,
    rating_loss,
    ratio_pooling,
    reward_loss,
    step_loss,
    value_loss,
    weighting,
)
from whet.registry import Choice
from whet.train.config import CriticConfig, KLConfig

TREES: dict[str, Callable[[], list[Tree]]] = {
    preference_loss.kind: tiny.pair_trees,
    reward_loss.kind: tiny.pair_trees,
    rating_loss.kind: tiny.rating_trees,
    ranking_loss.kind: tiny.ranking_trees,
    step_loss.kind: tiny.label_trees,
}


HEADS = ("score", "value")


def online(**fields: object) -> Callable[[], Made]:
    heads = ("value",) if "critic" in fields else ()
    return lambda: (online_terms(online_config(**fields))[0], tiny.group_trees(), heads)


def methods() -> dict[str, Callable[[], Made]]:
    """Every named loss, and every part of an online loss in one row each."""
    offline = {
        entry.name: named(entry.name, TREES[kind.shelf.kind], *(head for head in HEADS if head in str(needs)))
        for kind in KINDS.values()
        for entry in kind.shelf.entries()
        for needs in (entry.declarations["needs"],)
    }
    kl = {f"kl={n}": online(kl=KLConfig(coef=0.1, estimator=Choice(n), place="loss")) for n in kl_estimator.names()}
    sized = {"fixed_length": {"length": 7}}
    return {
        **offline,
        **kl,
        **{f"objective={n}": online(objective=Choice(n)) for n in policy_objective.names()},
        **{f"ratio={n}": online(ratio=Choice(n)) for n in ratio_pooling.names()},
        **{f"weigh={n}": online(weigh=Choice(n, sized.get(n, {}))) for n in weighting.names()},
        **{f"value={n}": online(critic=CriticConfig(trunk="shared", loss=Choice(n))) for n in value_loss.names()},
    }


METHODS = methods()


@pytest.mark.parametrize("method", METHODS)
def test_any_cut_gives_the_same_gradient(method: str) -> None:
    whole, _ = gradients(METHODS[method](), budget=10_000)
    cut, _ = gradients(METHODS[method](), budget=13)
    assert whole.keys() == cut.keys() and max(float(g.abs().max()) for g in whole.values()) > 1e-6
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-6, atol=1e-7)
