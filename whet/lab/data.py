"""Rows from the lab's worlds: prompts, demonstrations, and pairs labelled by a simulated annotator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from whet.errors import ConfigError, DataError
from whet.files import replace_file
from whet.lab.annotators import Annotator, Judged, KWise
from whet.lab.text import pieces
from whet.lab.world import Draft
from whet.lab.worlds import world as find_world
from whet.types import Task

SPLITS = ("train", "test")
TEST_SHARE = 5
"""One content hash in so many belongs to the test split."""
PATIENCE = 500
"""Draws in a row without a new task after which a split counts as exhausted."""


def split_of(world: str, draft: Draft) -> str:
    """Which split a task belongs to: a function of its content alone, so that splits cannot overlap."""
    return "test" if int(_digest(world, draft), 16) % TEST_SHARE == 0 else "train"


def _digest(world: str, draft: Draft) -> str:
    return hashlib.sha256(f"{world}/{draft.key}".encode()).hexdigest()


def task_of(world: str, draft: Draft) -> Task:
    """The draft as a task: its id is its content's hash, `meta["world"]` names the judge."""
    return Task(
        id=f"{world}-{_digest(world, draft)[:12]}",
        messages=({"role": "user", "content": draft.prompt},),
        answer=draft.answer,
        meta={"world": world, **draft.meta},
    )


def check_split(world: str, split: str) -> None:
    """An unknown world or split is an error that lists the known ones."""
    find_world(world)
    if split not in SPLITS:
        raise ConfigError(f"there is no split {split!r} of lab world {world!r}: choose one of {', '.join(SPLITS)}")


def stream(world: str, split: str, seed: int) -> Iterator[Task]:
    """Endless tasks of one split, repeats included, the same for the same seed."""
    check_split(world, split)
    found, rng = find_world(world), Random(f"{world}/{split}/{seed}")
    while True:
        draft = found.draw(rng)
        if split_of(world, draft) == split:
            yield task_of(world, draft)


def tasks(world: str, split: str, n: int, seed: int = 0) -> list[Task]:
    """The first n different tasks of a split.

    >>> tasks("chat", "train", 1)[0].prompt_text.split()[0] in {"Tell", "Write", "Talk"}
    True
    """
    found: dict[str, Task] = {}
    stale = 0
    for task in stream(world, split, seed):
        stale = stale + 1 if task.id in found else 0
        found.setdefault(task.id, task)
        if len(found) == n:
            return list(found.values())
        if stale > PATIENCE:
            raise DataError(
                f"lab:{world}/{split} has about {len(found)} different tasks, fewer than the {n} asked: ask fewer"
            )
    raise AssertionError("the stream is endless")


def demonstrations(
    world: str, split: str, n: int, seed: int = 0, *, skill: float | None = None
) -> list[dict[str, Any]]:
    """SFT rows `id, prompt, completion, gold` (prompt and completion are messages) written with the given skill.

    Without `skill` each world's own demonstration skill is used: its writers are imperfect, which leaves head-room.

    >>> row = demonstrations("math", "train", 1, skill=1.0)[0]
    >>> row["completion"][0]["role"], row["gold"]
    ('assistant', 1.0)
    """
    found = find_world(world)
    level = found.demonstration_skill if skill is None else skill
    rows = []
    for task in tasks(world, split, n, seed):
        text = found.write(task, Random(f"{task.id}/{seed}/demonstration"), level)
        completion = [{"role": "assistant", "content": text}]
        rows.append(
            {"id": task.id, "prompt": list(task.messages), "completion": completion, "gold": found.gold(task, text)[0]}
        )
    return rows


def label_pairs(samples: Sequence[tuple[Task, str, str]], annotator: Annotator) -> tuple[list[dict[str, Any]], int]:
    """Rows `id, prompt, chosen, rejected, margin, …` from (task, answer a, answer b); and how many were identical.

    Each pair is judged once, in the given order; its id is made from the task and both texts, so that the label is the
    same whatever else is labelled. `margin` is the annotator's strength of preference, `gold_*` the exact rewards and
    `p_gold` the probability that this annotator follows gold: their mean is the Bayes ceiling of the labels.
    """
    rows = []
    for task, a, b in samples:
        if a.strip() != b.strip():
            rows.append(_labelled(task, a, b, annotator))
    return rows, len(samples) - len(rows)


def rank_answers(samples: Sequence[tuple[Task, Sequence[str]]], annotator: KWise) -> list[dict[str, Any]]:
    """Rows `id, prompt, responses, ranks, gold` from (task, its answers): all answers ranked at once, 1 is best."""
    rows = []
    for task, texts in samples:
        looked = [judged(task, text) for text in texts]
        order = annotator.rank(task.id, looked)
        rows.append(
            {
                "id": task.id,
                "prompt": list(task.messages),
                "responses": [[{"role": "assistant", "content": text}] for text in texts],
                "ranks": [order.index(i) + 1 for i in range(len(texts))],
                "gold": [answer.gold for answer in looked],
            }
        )
    return rows


def shuffled_ranks(rows: Iterable[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The same rows with every prompt's ranks in a random order: the control.

    >>> shuffled_ranks([{"ranks": [1, 2, 3, 4]}], 0)
    [{'ranks': [1, 3, 2, 4]}]
    """
    draw = Random(f"shuffled/{seed}")
    return [{**row, "ranks": draw.sample(row["ranks"], len(row["ranks"]))} for row in rows]


def coin_labels(rows: Iterable[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The same pairs with chosen and rejected exchanged where a fair coin says so: the control.

    >>> [row["chosen"] for row in coin_labels([{"chosen": "a", "rejected": "b"}] * 4, 0)]
    ['b', 'a', 'b', 'b']
    """
    coin = Random(f"shuffled/{seed}")
    return [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]} if coin.random() < 0.5 else dict(row)
        for row in rows
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """The rows as JSONL, whole or not at all."""
    replace_file(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def judged(task: Task, text: str) -> Judged:
    """What an annotator may look at: the text's exact value, its length in words, its five aspects."""
    found = find_world(task.meta["world"])
    return Judged(gold=found.gold(task, text)[0], length=len(pieces(text)), aspects=found.aspects(task, text))


def _labelled(task: Task, a: str, b: str, annotator: Annotator) -> dict[str, Any]:
    pair_id = f"{task.id}-{hashlib.sha256(f'{a}|{b}'.encode()).hexdigest()[:12]}"
    looked_a, looked_b = judged(task, a), judged(task, b)
    label = annotator.compare(pair_id, looked_a, looked_b)
    better, worse = ((a, looked_a.gold), (b, looked_b.gold))[:: 1 if label.first else -1]
    return {
        "id": pair_id,
        "task_id": task.id,
        "prompt": list(task.messages),
        "chosen": [{"role": "assistant", "content": better[0]}],
        "rejected": [{"role": "assistant", "content": worse[0]}],
        "margin": label.margin,
        "gold_chosen": better[1],
        "gold_rejected": worse[1],
        "p_gold": annotator.follows_gold(looked_a, looked_b),
    }
