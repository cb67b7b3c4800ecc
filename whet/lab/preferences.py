"""The data of the preference tables: answers of one model, felt by one noisy annotator, with all that methods read.

    u_i = gold_i + tau · (Gumbel noise)        what the annotator feels of answer i, drawn once per prompt

Of all answers u is the `rating`, its order the ranking, the share of the siblings that it beats the `win_rate`. The
first two answers are the pair; by u, a is preferred to b with P = σ((gold_a − gold_b) / tau). The control exchanges
what was felt among the answers to a prompt: every label, rating and rank then says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from whet.lab.annotators import Judged, KWise
from whet.lab.data import judged, tasks, write_rows
from whet.lab.make import sampled_answers
from whet.models.config import ModelConfig
from whet.models.io import load_policy
from whet.types import Task

PER_WORD = 0.1
"""What a word costs in the second objective, which `margin_reward` is: brevity."""


def preferences(
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
    max_new_tokens: int = 32,
) -> dict[str, Any]:
    """pairs.jsonl and rankings.jsonl on the same training prompts, their controls *_shuffled.jsonl, and held.jsonl:
    pairs on test prompts."""
    policy = load_policy(ModelConfig(path=model), seed=seed).freeze()
    annotator = KWise(k=answers, tau=tau, seed=seed)
    numbers: dict[str, Any] = {}
    for name, split, count in (("train", "train", prompts), ("held", "test", held)):
        live.say(f"{count} prompts of lab:{world}/{split}: {answers} answers each, felt by a noisy annotator")
        asked = tasks(world, split, count, seed + 1)
        drawn = sampled_answers(policy, asked, answers, seed, split, max_new_tokens)
        told = [(task, texts) for task, texts in drawn if _different(texts)]
        numbers |= {f"{name}_prompts": len(told), f"{name}_unlike": len(drawn) - len(told)}
        felt = [_felt(task, texts, annotator) for task, texts in told]
        if split == "test":
            write_rows(folder / "held.jsonl", map(_pair, felt))
            continue
        for end, some in (("", felt), ("_shuffled", _exchanged(felt, seed))):
            write_rows(folder / f"pairs{end}.jsonl", map(_pair, some))
            write_rows(folder / f"rankings{end}.jsonl", map(_ranking, some))
    names = ("pairs", "rankings", "pairs_shuffled", "rankings_shuffled", "held")
    return {"files": {name: f"{name}.jsonl" for name in names}, "numbers": numbers}


def _different(texts: Sequence[str]) -> bool:
    """No answer is empty, and the two of the pair are not the same."""
    return all(text.strip() for text in texts) and texts[0].strip() != texts[1].strip()


def _felt(task: Task, texts: Sequence[str], annotator: KWise) -> dict[str, Any]:
    looked = [judged(task, text) for text in texts]
    ratings = [annotator.tau * u for u in annotator.utilities(task.id, looked)]
    middle = sum(ratings) / len(ratings)
    return {"task": task, "texts": list(texts), "looked": looked, "ratings": [rating - middle for rating in ratings]}


def _exchanged(felt: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The same answers with what was felt of them in a random order."""
    draw = Random(f"shuffled/{seed}")
    return [{**one, "ratings": draw.sample(one["ratings"], len(one["ratings"]))} for one in felt]


def _pair(felt: Mapping[str, Any]) -> dict[str, Any]:
    """The first two answers as chosen and rejected, with the numbers of each."""
    numbers = _numbers(felt)
    better, worse = (0, 1) if felt["ratings"][0] > felt["ratings"][1] else (1, 0)
    row = {"id": felt["task"].id, "prompt": list(felt["task"].messages)}
    for name, i in (("chosen", better), ("rejected", worse)):
        row[name] = _said(felt["texts"][i])
        row |= {f"{name}_{column}": values[i] for column, values in numbers.items()}
    return {**row, "margin": abs(felt["ratings"][0] - felt["ratings"][1])}


def _ranking(felt: Mapping[str, Any]) -> dict[str, Any]:
    numbers = _numbers(felt)
    return {
        "id": felt["task"].id,
        "prompt": list(felt["task"].messages),
        "responses": [_said(text) for text in felt["texts"]],
        "scores": felt["ratings"],
        **{f"{column}s": values for column, values in numbers.items() if column != "rating"},
    }


def _numbers(felt: Mapping[str, Any]) -> dict[str, list[float]]:
    """Columns of every answer."""
    ratings: list[float] = felt["ratings"]
    looked: list[Judged] = felt["looked"]
    others = len(ratings) - 1
    return {
        "rating": ratings,
        "win_rate": [sum(mine > other for other in ratings) / others for mine in ratings],
        "margin_reward": [-PER_WORD * one.length for one in looked],
    }


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
