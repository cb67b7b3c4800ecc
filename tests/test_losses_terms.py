"""Terms and views: how functions of every shelf get their inputs from one forward."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import rollout

from whet.batch import Tree, pack
from whet.errors import DataError
from whet.losses.policy.reinforce import reinforce
from whet.losses.ratio import sequence, token
from whet.losses.terms import (
    Responses,
    Term,
    Views,
    log_ratio,
    on_entropy,
    on_labels,
    on_pairs,
    on_policy_tokens,
    on_reference,
    on_responses,
    on_tokens,
    on_values,
    sum_by_row,
)
from whet.losses.weights import token_mean


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def views(**columns: Tensor) -> Views:
    """Three answers of 2, 1 and 3 tokens; the first is preferred to the third, the second to the first."""
    tree = Tree(
        rollouts=[rollout([1, 2]), rollout([3]), rollout([4, 5, 6])],
        pairs=[(0, 2), (1, 0)],
        response={"label": [1, 0, 1]},
        pair={"margin": [0.5, 2.0]},
        labels=[[(2, 1.0)], [], [(1, 0.0), (3, 0.5)]],
    )
    given = {"reference": numbers(-1, -1, -2, -1, -1, -1)} | columns
    return Views(
        batch=pack([tree]).with_columns(token=given),
        token={
            "logprobs": numbers(-1, -2, -3, -4, -5, -6).requires_grad_(),
            "entropy": numbers(1, 1, 1, 2, 2, 2),
            "value": numbers(0, 0, 0, 1, 1, 1),
        },
        response={"score": numbers(0.1, 0.2, 0.3)},
        label={"step_score": numbers(7, 8, 9)},
    )


def test_responses_hold_sums_over_counted_tokens() -> None:
    (found,) = on_responses(views())
    assert isinstance(found, Responses)
    assert found.length.tolist() == [2, 1, 3]
    assert found.logprob("sum").tolist() == [-3, -3, -15]
    assert found.logprob("mean").tolist() == [-1.5, -3, -5]
    assert found.logratio("sum").tolist() == [-1, -1, -12]
    assert found.logratio("mean").tolist() == [-0.5, -1, -4]
    assert found.stat["entropy"].tolist() == [2, 1, 6]
    assert found.scores().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert found.column("label").tolist() == [1, 0, 1]


def test_pairs_are_two_views_with_the_pairs_own_columns() -> None:
    chosen, rejected = on_pairs(views())
    assert isinstance(chosen, Responses) and isinstance(rejected, Responses)
    assert chosen.logprob("sum").tolist() == [-3, -3]
    assert rejected.logprob("sum").tolist() == [-15, -3]
    assert chosen.column("margin").tolist() == rejected.column("margin").tolist() == [0.5, 2.0]
    assert chosen.column("label").tolist() == [1, 0]
    assert chosen.group is not None and chosen.group.tolist() == [0, 0]


def test_leaves_replace_the_forward_in_a_coupled_loss() -> None:
    """The derivative by `summed` is what the second pass gives back to the tokens."""
    given = views()
    sums = {name: value.detach().requires_grad_() for name, value in given.summed().items()}
    assert set(sums) == {"token.logprobs", "token.entropy", "token.value", "response.score"}
    (found,) = on_responses(given, sums)
    assert isinstance(found, Responses)
    found.logratio("sum").square().sum().backward()
    slope = sums["token.logprobs"].grad
    assert slope is not None and slope.tolist() == [-2, -2, -24]
    assert given.token["logprobs"].grad is None
    chosen, _ = on_pairs(given, sums)
    assert isinstance(chosen, Responses) and chosen.scores() is not sums["response.score"]


def test_a_view_without_an_output_says_so() -> None:
    bare = Responses(length=numbers(1))
    for ask in (bare.scores, lambda: bare.logprob("sum"), lambda: bare.logratio("mean")):
        with pytest.raises(AssertionError):
            ask()
    with pytest.raises(DataError, match=r"'rating', which the data does not have \(it has: none\)"):
        bare.column("rating")
    assert bare.take(torch.tensor([0])).policy is None


def test_without_a_reference_column_there_is_no_anchor() -> None:
    given = views()
    found = Views(batch=replace(given.batch, token={}), token=given.token)
    assert found.responses().anchor is None and found.responses().score is None


def test_token_inputs_are_the_columns_they_name() -> None:
    given = views(value=numbers(9, 9, 9, 9, 9, 9), target=numbers(5, 5, 5, 5, 5, 5))
    assert [x.tolist() for x in on_tokens(given)] == [[-1, -2, -3, -4, -5, -6]]
    assert [x.tolist() for x in on_entropy(given)] == [[1, 1, 1, 2, 2, 2]]
    assert [x.tolist() for x in on_reference(given)] == [[0, -1, -1, -3, -4, -5]]
    assert [x[0].item() for x in on_values(given)] == [0, 9, 5]
    assert [x.tolist() for x in on_labels(given)] == [[7, 8, 9], [1.0, 0.0, 0.5]]
    torch.testing.assert_close(sum_by_row(given.token["entropy"], given.batch), numbers(2, 1, 6))


def test_without_an_old_policy_the_ratio_is_one_with_the_policys_gradient() -> None:
    """I01, I02: the first update has ratio 1, a later one has not."""
    given = views(advantage=numbers(1, 1, 2, 3, 3, 3))
    first = log_ratio(given)
    assert first.tolist() == [0.0] * 6
    assert torch.autograd.grad(first.sum(), given.token["logprobs"])[0].tolist() == [1.0] * 6
    second = views(advantage=numbers(1, 1, 2, 3, 3, 3), old=numbers(-1, -1, -3, -4, -4, -4))
    assert log_ratio(second).tolist() == [0, -1, 0, 0, -1, -2]
    pooled, advantage = on_policy_tokens(sequence)(second)
    assert isinstance(pooled, Tensor) and pooled.tolist() == [-0.5, -0.5, 0, -1, -1, -1]
    assert isinstance(advantage, Tensor) and advantage.tolist() == [1, 1, 2, 3, 3, 3]


def test_a_term_is_its_function_of_its_inputs() -> None:
    term = Term(
        name="reinforce",
        fn=reinforce,
        inputs=on_policy_tokens(token),
        weigh=token_mean,
        over="token",
        needs=frozenset({"logprobs"}),
    )
    given = views(advantage=numbers(1, 1, 2, 3, 3, 3), old=torch.zeros(6))
    assert term.values(given).tolist() == [1, 2, 6, 12, 15, 18]
    assert (term.weigh(given.batch) * term.values(given)).sum().item() == pytest.approx(9.0)
