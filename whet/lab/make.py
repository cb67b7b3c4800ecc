"""Stages that make artefacts in the lab: rankings, labelled pairs, and the judgement of trained models by exact gold.

Each is called as `f(folder, live=…, **arguments)` by a recipe and returns what it made: files, numbers, table rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from whet.eval.evaluate import Evaluation, evaluate, gold_win_rate
from whet.eval.stats import Interval
from whet.files import replace_file
from whet.lab.annotators import BT, KWise
from whet.lab.data import label_pairs, rank_answers, shuffled_ranks, tasks, write_rows
from whet.lab.gold import GoldReward
from whet.models.config import ModelConfig
from whet.models.io import load_policy, load_reward
from whet.models.policy import Decoder
from whet.report.samples import sample_row, write_samples
from whet.report.table import numbers_of
from whet.rewards.model import ModelReward
from whet.rewards.waiting import finished
from whet.rollout.config import SamplingConfig
from whet.rollout.torch_engine import engine_of
from whet.train.credit import pack_groups, token_column
from whet.types import NoiseKey, Request, Score, Task

BUDGET = 16384


def comparisons(
    folder: Path,
    *,
    live: Any,
    model: str,
    world: str,
    prompts: int,
    answers: int,
    held: int,
    tau: float,
    seed: int,
    shuffled: bool = False,
    max_new_tokens: int = 32,
) -> dict[str, Any]:
    """Answers of `model`, compared by a noisy annotator that prefers a to b with P = σ((gold_a − gold_b) / tau).

    Writes rankings.jsonl, all `answers` to each training prompt ranked at once (Plackett–Luce, whose pairs follow that
    P), and held.jsonl, two answers to each test prompt compared once. `held_ceiling` is the best accuracy that anyone
    can reach on the held-out labels. With `shuffled` the training ranks are in a random order: the control.
    """
    policy = load_policy(ModelConfig(path=model), seed=seed).freeze()
    live.say(f"{prompts} prompts of lab:{world}/train: {answers} answers each, ranked by a noisy annotator")
    drawn = sampled_answers(policy, tasks(world, "train", prompts, seed + 1), answers, seed, "train", max_new_tokens)
    told = [(task, texts) for task, texts in drawn if all(text.strip() for text in texts)]
    rankings = rank_answers(told, KWise(k=answers, tau=tau, seed=seed))
    write_rows(folder / "rankings.jsonl", shuffled_ranks(rankings, seed) if shuffled else rankings)
    live.say(f"{held} prompts of lab:{world}/test: two answers each, compared by the same annotator")
    others = sampled_answers(policy, tasks(world, "test", held, seed + 1), 2, seed, "test", max_new_tokens)
    both = [(task, a, b) for task, (a, b) in others if a.strip() and b.strip()]
    pairs, identical = label_pairs(both, BT(tau=tau, seed=seed))
    write_rows(folder / "held.jsonl", pairs)
    numbers = {
        "rankings": len(rankings),
        "rankings_empty": len(drawn) - len(told),
        "held_rows": len(pairs),
        "held_identical": identical,
        "held_empty": len(others) - len(both),
        "held_ceiling": sum(row["p_gold"] for row in pairs) / len(pairs),
    }
    return {"files": {"rankings": "rankings.jsonl", "held": "held.jsonl"}, "numbers": numbers}


def sampled_answers(
    policy: Decoder, chosen: Sequence[Task], n: int, seed: int, stream: str, length: int
) -> list[tuple[Task, list[str]]]:
    engine, renderer = engine_of(policy, SamplingConfig(max_new_tokens=length, slots=128))
    requests = [
        Request(prompt=renderer.prompt(t), key=NoiseKey(seed=seed, stream=f"pairs/{stream}", step=0, task=t.id), n=n)
        for t in chosen
    ]
    drawn = engine.sample(requests)
    return [(task, [r.text for r in rollouts]) for task, rollouts in zip(chosen, drawn, strict=True)]


def judge(
    folder: Path,
    *,
    live: Any,
    models: Sequence[Mapping[str, Any]],
    prompts: int,
    seed: int,
    max_new_tokens: int = 32,
    shown: int = 6,
) -> dict[str, Any]:
    """Evaluate every model on held-out prompts of its world by exact gold; one table row each.

    An entry has stage, world, model, seconds; `proxy` (a reward model's folder) where one was trained on; `before` (the
    stage that it began from) where it is compared; `k` answers per prompt; `accuracy` for a reward model, which does
    not write.
    """
    done: dict[str, Evaluation] = {}
    decoders: dict[str, Decoder] = {}
    rows: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    for entry in models:
        stage, before = entry["stage"], entry.get("before")
        if "accuracy" in entry:
            rows.append({"stage": stage, "accuracy": entry["accuracy"], "seconds": entry["seconds"]})
            continue
        live.say(f"judging {stage} on {prompts} held-out prompts of lab:{entry['world']}")
        policy = load_policy(ModelConfig(path=entry["model"]), seed=seed).freeze()
        found = _evaluated(policy, entry, prompts=prompts, seed=seed, length=max_new_tokens)
        done[stage], decoders[stage] = found, policy
        versus = gold_win_rate(found, done[before], seed=seed) if before else None
        kl = mean_kl(policy, decoders[before], found) if before else None
        rows.append(_row(entry, found, versus, kl))
        samples += _samples(stage, found, shown, policy)
    write_samples(folder.parents[1], samples)
    text = json.dumps({stage: found.json() for stage, found in done.items()})
    replace_file(folder / "evaluations.json", text.encode())
    return {"files": {"evaluations": "evaluations.json"}, "numbers": numbers_of(rows), "rows": rows}


def _evaluated(policy: Decoder, entry: Mapping[str, Any], *, prompts: int, seed: int, length: int) -> Evaluation:
    engine, renderer = engine_of(policy, SamplingConfig(max_new_tokens=length, slots=128))
    name = entry["world"]
    gold = GoldReward(name)
    k = entry.get("k", 1)
    reward: Any = gold
    if entry.get("proxy"):
        scorer = load_reward(ModelConfig(path=entry["proxy"]), seed=seed).freeze()
        reward = ModelReward(name="reward_model", model=scorer, budget=BUDGET)
    asked = tasks(name, "test", prompts, seed)
    return evaluate(engine, asked, renderer.prompt, reward, k=k, seed=seed, gold=gold)


def _samples(stage: str, found: Evaluation, shown: int, policy: Decoder) -> list[dict[str, Any]]:
    """The first answer to the first prompts, with the parts of its exact reward."""
    judged = finished(GoldReward(found.groups[0].task.meta["world"])(found.groups[:shown]))
    return [
        sample_row(
            group.task,
            group.rollouts[0],
            _with_parts(seen.scores[0], exact.scores[0]),
            stage=stage,
            decode=policy.tokenizer.decode,
            gold=exact.scores[0].value if exact.scores[0] else None,
            why=_why(exact.scores[0].parts) if exact.scores[0] else None,
        )
        for group, seen, exact in zip(found.groups, found.groups, judged, strict=False)
    ]


COSTS = ("length", "repeats")
"""Parts that only ever take away."""


def _why(parts: Mapping[str, float]) -> str:
    """What an answer lacks and what it pays for, in the names of its parts.

    >>> _why({"coverage": 2.0, "order": 0.0, "length": -0.2, "repeats": 0.0})
    'lacks order; pays 0.2 for length'
    >>> _why({"correct": 1.0})
    'lacks nothing'
    """
    lacking = [name for name, value in parts.items() if value <= 0 and name not in COSTS]
    paying = [f"{-value:.1f} for {name}" for name, value in parts.items() if value < 0 and name in COSTS]
    lacks = f"lacks {', '.join(lacking) or 'nothing'}"
    return f"{lacks}; pays {', '.join(paying)}" if paying else lacks


def _with_parts(score: Score | None, exact: Score | None) -> Score | None:
    return replace(score, parts=exact.parts) if score and exact else score


def mean_kl(policy: Decoder, before: Decoder, found: Evaluation) -> float:
    """Mean over answers of Σ_t log π(y_t) − log π_before(y_t), on answers sampled from π."""
    batch, _ = pack_groups(found.groups)
    with torch.no_grad():
        after = token_column(policy, batch, "logprobs", budget=BUDGET)
        start = token_column(before, batch, "logprobs", budget=BUDGET)
    return float((after - start).sum()) / batch.rows


def _row(entry: Mapping[str, Any], found: Evaluation, versus: Interval | None, kl: float | None) -> dict[str, Any]:
    at = found.pass_at
    return {
        "stage": entry["stage"],
        "win_rate": versus.json() if versus else None,
        "gold": found.gold_reward.value if found.gold_reward else None,
        "proxy": found.reward.value if entry.get("proxy") and found.reward else None,
        "kl": kl,
        "length": found.length.value,
        "pass_at_1": at[1].json() if 1 in at else None,
        "pass_at_8": at[8].json() if 8 in at else None,
        "seconds": entry["seconds"],
    }
