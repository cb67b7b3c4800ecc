"""From scored groups to a batch with every column that the update needs, all without gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whet.advantages import advantage as advantage_shelf
from whet.advantages.returns import Returns
from whet.advantages.whiten import whiten
from whet.batch import TokenBatch, Tree, pack
from whet.data.order import permutation
from whet.errors import NumericsError
from whet.metrics import Metric
from whet.models.policy import Decoder
from whet.train.ranks import Ranks
from whet.train.step import Reference
from whet.types import Group

SAMPLER_TOLERANCE = 1e-4
DIFFERENCE = "sampler/max_difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """How many responses of a step are not learned from: nobody could judge them (or they are empty), or they are
    judged but `alone`, without a sibling to be compared with."""

    unscorable: int = 0
    alone: int = 0


def compares(name: str) -> bool:
    """Whether the advantage of this name compares the responses to one prompt."""
    return "siblings" in advantage_shelf.entry(name).declarations.get("needs", ())


def pack_groups(groups: Sequence[Group], *, siblings: bool = True) -> tuple[TokenBatch, LeftOut]:
    """The scored rollouts of a step as one forest, and what was left out.

    With `siblings`, what an advantage that compares asks for, the only response that is left of several goes too.
    Token columns: `sampled`, the sampler's log-probabilities. Response columns: `reward`, and `place`, the response's
    place among all of the step.
    """
    trees, sampled, first, unscorable, alone = [], [], 0, 0, 0
    for group in groups:
        judged = [i for i, (r, s) in enumerate(group.members) if s is not None and s.value is not None and r.length]
        lone = siblings and len(judged) == 1 < len(group.members)
        kept = [] if lone else judged
        unscorable, alone = unscorable + len(group.members) - len(judged), alone + lone
        if kept:
            rewards = [s.value for s in map(group.scores.__getitem__, kept) if s is not None and s.value is not None]
            columns = {"reward": rewards, "place": [first + i for i in kept]}
            trees.append(Tree(rollouts=[group.rollouts[i] for i in kept], response=columns))
            sampled += [lp for i in kept for lp in group.rollouts[i].logprobs]
        first += len(group.members)
    nothing = {name: torch.zeros(0) for name in ("reward", "place")}
    batch = pack(trees) if trees else pack([]).with_columns(response=nothing)
    batch = batch.with_columns(token={"sampled": torch.tensor(sampled, dtype=torch.float32)})
    return batch, LeftOut(unscorable=unscorable, alone=alone)


def token_column(
    model: Decoder | Reference, batch: TokenBatch, need: str, *, budget: int, temperature: float = 1.0
) -> Tensor:
    """One output of a model for every counted token, `[N]`, without gradient, computed in pieces of `budget` tokens."""
    return token_columns(model, batch, frozenset({need}), budget=budget, temperature=temperature)[need]


def token_columns(
    model: Decoder | Reference, batch: TokenBatch, needs: frozenset[str], *, budget: int, temperature: float = 1.0
) -> dict[str, Tensor]:
    """Several outputs of one pass, as `token_column`; no pass where nothing is needed."""
    out = {need: torch.zeros(batch.counted.numel(), dtype=torch.float32) for need in needs}
    numbered = batch.with_columns(response={"step_row": torch.arange(batch.rows)})
    for piece in numbered.split(budget) if needs else ():
        with torch.no_grad():
            views = model(piece, needs, temperature=temperature)
        at = torch.isin(batch.row, piece.response["step_row"])
        for need in needs:
            out[need][at] = views.token[need].to("cpu", torch.float32)
    return out


def annotate(
    batch: TokenBatch,
    *,
    policy: Decoder,
    critic: Decoder | None,
    reference: Reference | None,
    old: bool,
    budget: int,
    temperature: float,
) -> TokenBatch:
    """The batch with what the models say before a step's updates, each model in one pass at most.

    `old`, log π where it is asked for: the sampler's own numbers in float32 (`refuse_stale` checks them against the
    first update), computed again where rounding is coarser. `value` of a critic, `reference` of a reference.
    """
    again = {"logprobs"} if old and policy.hf.dtype != torch.float32 else set[str]()
    own = again | {"value"} if critic is policy else again
    found = token_columns(policy, batch, frozenset(own), budget=budget, temperature=temperature)
    columns = {"old": found.pop("logprobs", batch.token["sampled"])} if old else {}
    if critic is not None and critic is not policy:
        columns["value"] = token_column(critic, batch, "value", budget=budget)
    if reference is not None:
        columns["reference"] = token_column(reference, batch, "logprobs", budget=budget, temperature=temperature)
    return batch.with_columns(token={**columns, **found})


def refuse_stale(found: Sequence[dict[str, Metric]], policy: Decoder) -> None:
    """Stop where the sampler and the trainer disagree before the first update of a step: one of them is wrong.

    Later updates of the step see a policy that has moved, so their difference is no measurement and is taken out.
    """
    for later in found[1:]:
        later.pop(DIFFERENCE, None)
    worst = found[0][DIFFERENCE].value() if DIFFERENCE in found[0] else None
    if worst is not None and policy.hf.dtype == torch.float32 and worst > SAMPLER_TOLERANCE:
        raise NumericsError(
            f"the sampler's log-probabilities differ from the trainer's by {worst:.2g} (in float32 by at most "
            f"{SAMPLER_TOLERANCE:g}), so one of them uses other weights or another distribution; please report this"
        )


def credit(
    batch: TokenBatch,
    advantage: Callable[[Returns], Tensor],
    *,
    kl_cost: Callable[[Tensor], Tensor] | None,
    whitened: bool,
) -> TokenBatch:
    """The batch with an `advantage` column and, where values are known, their `target` (before whitening)."""
    returns = Returns(
        reward=batch.response["reward"][:, None],
        kl=_kl(batch, kl_cost),
        value=batch.token.get("value"),
        row=batch.row,
        length=batch.length,
        group=batch.group,
        scored=torch.ones(batch.rows, dtype=torch.bool),
    )
    advantages = advantage(returns)
    columns = {"advantage": whiten(advantages) if whitened else advantages}
    if "value" in batch.token:
        columns["target"] = advantages + batch.token["value"]
    return batch.with_columns(token=columns)


def _kl(batch: TokenBatch, kl_cost: Callable[[Tensor], Tensor] | None) -> Tensor:
    if kl_cost is None:
        return torch.zeros(batch.counted.numel())
    return kl_cost(batch.token.get("old", batch.token["sampled"]) - batch.token["reference"])


def own_groups(batch: TokenBatch, ranks: Ranks) -> TokenBatch:
    """This rank's groups of a batch that all ranks have."""
    if ranks.size == 1:
        return batch
    mine = torch.tensor(ranks.share(batch.group.unique().tolist()), dtype=torch.long)
    return batch.take(torch.isin(batch.group, mine).nonzero()[:, 0])


def parts(batch: TokenBatch, *, updates: int, minibatches: int, seed: int, step: int) -> Iterator[TokenBatch]:
    """The batch as minibatches of whole groups, `updates` times in fresh orders that follow from seed and step."""
    groups = batch.group.unique()
    for again in range(updates):
        if minibatches == 1 or not batch.rows:
            yield batch
            continue
        order = groups[torch.tensor(permutation(len(groups), seed=seed, epoch=step * updates + again))]
        for chosen in order.tensor_split(minibatches):
            if len(chosen):
                yield batch.take(torch.isin(batch.group, chosen).nonzero()[:, 0])
