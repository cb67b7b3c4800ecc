"""Preferences between summaries of posts: the stage that makes pairs of them, split by post. Imports no torch."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from whet.data.config import DataConfig
from whet.data.dataset import pairs as read_pairs
from whet.data.readers import read_rows
from whet.data.render import Renderer
from whet.data.rows import Row, rows_of
from whet.data.splits import split_rows
from whet.lab.data import coin_labels, write_rows
from whet.lab.real import length_accuracy
from whet.models.tokenizer import load_tokenizer

FILE = "tldr-preferences/tldr_gpt4_preferences.jsonl.gz"
CLEAR = 0.25
"""A verdict is 1 (the first is better) to 2 (the second); within this of either end it is clear."""
ASK = "\nTL;DR:"


def summaries(
    folder: Path,
    *,
    live: Any,
    data: str,
    model: str,
    limit: int,
    max_prompt: int,
    max_length: int,
    holdout: float,
    seed: int,
) -> dict[str, Any]:
    """train.jsonl, held.jsonl and shuffled.jsonl: `limit` clear pairs at most, in an order of the seed, split by post.

    Of a post the last `max_prompt` tokens stay. Every row that is left out is in a count: no verdict, an unclear one,
    identical summaries, too long a summary, beyond the limit.
    """
    live.say("reading verdicts on summaries")
    config = DataConfig(path=f"{data}/{FILE}", max_length=max_length, overlong_limit=1.0, identical_limit=1.0)
    renderer = Renderer(load_tokenizer(f"{data}/{model}"))
    rows = list(read_rows(config))
    judged = [row.columns for row in rows if row.columns.get("preference") is not None]
    clear = [columns for columns in judged if abs(float(columns["preference"]) - 1.5) >= 0.5 - CLEAR]
    taken = Random(f"summaries/{seed}").sample(clear, min(limit, len(clear)))
    shortened, made = 0, []
    for number, columns in enumerate(taken):
        prompt = tail(str(columns["prompt"]) + ASK, renderer, max_prompt)
        shortened += prompt != str(columns["prompt"]) + ASK
        made.append({"id": str(number), **_pair(columns), "prompt": prompt})
    written = list(rows_of(made, name="summaries"))
    found, report = read_pairs(written, renderer, config=config)
    fitting = {pair.id for pair in found}
    train, held = split_rows((row for row in written if row.columns["id"] in fitting), holdout=holdout, seed=seed)
    for name, part in (("train", _columns(train)), ("held", _columns(held))):
        write_rows(folder / f"{name}.jsonl", part)
    write_rows(folder / "shuffled.jsonl", coin_labels(_columns(train), seed))
    places = {row.columns["id"] for row in train}
    learned, kept = [p for p in found if p.id in places], [p for p in found if p.id not in places]
    numbers = {
        "read": len(rows),
        "without_verdict": len(rows) - len(judged),
        "unclear": len(judged) - len(clear),
        "beyond_limit": len(clear) - len(taken),
        "shortened": shortened,
        "identical": report.identical,
        "overlong": report.overlong,
        "train": len(train),
        "held": len(held),
        "length_accuracy": length_accuracy(learned, kept),
    }
    return {"files": {name: f"{name}.jsonl" for name in ("train", "held", "shuffled")}, "numbers": numbers}


def tail(text: str, renderer: Renderer, most: int) -> str:
    """The longest end of a text that has at most so many tokens."""

    def fits(start: int) -> bool:
        return len(renderer.plain(text[start:], "", task_id="").prompt) <= most

    return text[bisect.bisect_left(range(len(text)), True, key=fits) :]


def _pair(columns: Mapping[str, Any]) -> dict[str, str]:
    first = float(columns["preference"]) < 1.5
    better, worse = ("output_1", "output_2") if first else ("output_2", "output_1")
    return {"chosen": f" {str(columns[better]).strip()}", "rejected": f" {str(columns[worse]).strip()}"}


def _columns(rows: Iterable[Row]) -> list[Mapping[str, Any]]:
    return [row.columns for row in rows]
