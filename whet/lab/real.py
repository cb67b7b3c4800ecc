"""Stages that turn files of real stories, labelled sentences and dialogues into what the loops read. Imports no torch.

Each is called as `f(folder, live=…, **arguments)` by a recipe and returns the files it made and their counts: every row
that is left out is in a count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
from whet.models.tokenizer import load_tokenizer
from whet.types import Pair

STORIES = "tinystories-sample/tinystories_sample.txt"
SENTENCES = tuple(f"sentiment-labelled-sentences/{name}_labelled.txt" for name in ("amazon_cells", "imdb", "yelp"))
_SENTENCE = re.compile(r".*?[.!?][\"']?(?= |$)")

Made = dict[str, Any]


def stories(folder: Path, *, live: Any, data: str, holdout: float, seed: int) -> Made:
    """train.jsonl and held.jsonl: whole stories, one a line; the sample's last one, which is cut off, is left out."""
    live.say("reading stories")
    texts = _stories(data)
    return _both(folder, [{"text": text} for text in texts], holdout=holdout, seed=seed)


def prompts(folder: Path, *, live: Any, data: str, sentences: int, words: int, holdout: float, seed: int) -> Made:
    """train.jsonl and held.jsonl: the first sentences of stories as `prompt`, none twice, none longer than `words`."""
    live.say("cutting prompts from stories")
    openings = [opening(text, sentences=sentences) for text in _stories(data)]
    short = [text for text in openings if 0 < len(text.split()) <= words]
    distinct = list(dict.fromkeys(short))
    made = _both(folder, [{"prompt": text} for text in distinct], holdout=holdout, seed=seed)
    left_out = {"long_or_short": len(openings) - len(short), "repeated": len(short) - len(distinct)}
    return {**made, "numbers": {**made["numbers"], **left_out}}


def opening(text: str, *, sentences: int) -> str:
    """The first sentences of a text; nothing where it has no more than these.

    >>> opening('Tim ran. "Stop!" he said. He fell.', sentences=2)
    'Tim ran. "Stop!"'
    >>> opening("Tim ran.", sentences=1)
    ''
    """
    found = [match.group() for match in _SENTENCE.finditer(text)]
    return "".join(found[:sentences]) if len(found) > sentences else ""


def sentiment(folder: Path, *, live: Any, data: str, each: int, seed: int) -> Made:
    """Two halves of the labelled sentences, a.jsonl and b.jsonl: pairs of a positive (chosen) and a negative sentence.

    No sentence is in both halves. Each positive sentence meets `each` negative ones of its half.
    """
    live.say("pairing positive with negative sentences")
    rows = [row.columns for row in read_rows(DataConfig(path=tuple(f"{data}/{name}" for name in SENTENCES)))]
    labels = {str(row["text"]): float(row["label"]) for row in rows}
    halves: tuple[list[Mapping[str, Any]], ...] = ([], [])
    for number, text in enumerate(_shuffled(sorted(labels), seed)):
        halves[number % 2].append({"text": text, "label": labels[text]})
    numbers = {"repeated": len(rows) - len(labels)}
    for name, half in zip("ab", halves, strict=True):
        made = _opposites(half, each=each, seed=seed)
        write_rows(folder / f"{name}.jsonl", made)
        numbers |= {f"{name}_sentences": len(half), f"{name}_pairs": len(made)}
    return {"files": {"a": "a.jsonl", "b": "b.jsonl"}, "numbers": numbers}


def _opposites(half: Sequence[Mapping[str, Any]], *, each: int, seed: int) -> list[dict[str, str]]:
    """Every positive text with `each` negative ones, all negative ones used equally often."""
    good = [row["text"] for row in half if row["label"] > 0.5]
    bad = [row["text"] for row in half if row["label"] <= 0.5]
    made: list[dict[str, str]] = []
    for turn in range(each):
        against = _shuffled(bad, seed + turn)
        made += [{"chosen": a, "rejected": against[i % len(against)]} for i, a in enumerate(good)]
    return made


def dialogues(
    folder: Path,
    *,
    live: Any,
    data: str,
    subset: str,
    model: str,
    max_length: int,
    max_bad_rows: int,
    overlong: str,
    holdout: float,
    seed: int,
    max_rows: int | None = None,
) -> Made:
    """train.jsonl and held.jsonl of a subset of HH-RLHF, split by dialogue: what fits `max_length` tokens of `model`.

    shuffled.jsonl is train.jsonl with labels decided by a fair coin: the control. `length_accuracy` is what the better
    of "longer wins" and "shorter wins" on the training pairs reaches on the held-out ones.
    """
    live.say(f"reading {subset}")
    path = f"{data}/hh-rlhf/{subset}/test.jsonl.gz"
    config = DataConfig(
        path=path,
        max_rows=max_rows,
        max_length=max_length,
        overlong=overlong,  # pyright: ignore[reportArgumentType]
        overlong_limit=1.0,
        max_bad_rows=max_bad_rows,
        seed=seed,
    )
    renderer = Renderer(load_tokenizer(f"{data}/{model}"))
    rows = list(read_rows(config))
    found, report = read_pairs(rows, renderer, config=config)
    fitting = {pair.id for pair in found}
    train, held = split_rows((row for row in rows if row.where in fitting), holdout=holdout, seed=seed)
    shuffled = coin_labels(_columns(train), seed)
    for name, part in (("train", _columns(train)), ("held", _columns(held)), ("shuffled", shuffled)):
        write_rows(folder / f"{name}.jsonl", part)
    places = {row.where for row in train}
    learned, kept = [p for p in found if p.id in places], [p for p in found if p.id not in places]
    names = ("read", "kept", "bad", "overlong", "identical", "trimmed")
    numbers = {name: getattr(report, name) for name in names} | {"train": len(train), "held": len(held)}
    return {
        "files": {name: f"{name}.jsonl" for name in ("train", "held", "shuffled")},
        "numbers": {**numbers, "length_accuracy": length_accuracy(learned, kept)},
    }


def length_accuracy(learned: Sequence[Pair], held: Sequence[Pair]) -> float:
    """Share of `held` pairs that lengths alone order right: longer or shorter, whichever is better on `learned`."""
    return _longer(held) if _longer(learned) >= 0.5 else 1.0 - _longer(held)


def _longer(found: Sequence[Pair]) -> float:
    """Share of pairs whose chosen answer is the longer one, ties ½."""
    gaps = [pair.chosen.length - pair.rejected.length for pair in found]
    return sum((gap > 0) + 0.5 * (gap == 0) for gap in gaps) / len(gaps)


def table(folder: Path, *, live: Any, rows: Sequence[Mapping[str, Any]]) -> Made:
    """Rows for the final table, as they are given."""
    return {"rows": [dict(row) for row in rows]}


def chance(prompts: Sequence[Any], completions: Sequence[Any], *, seed: int) -> list[float]:
    """A reward that says nothing: uniform in [0, 1), drawn from seed, prompt and completion. The control."""
    return [Random(f"{seed}\0{p}\0{c}").random() for p, c in zip(prompts, completions, strict=True)]


def _stories(data: str) -> list[str]:
    """Every whole story on one line."""
    rows = list(read_rows(DataConfig(path=f"{data}/{STORIES}")))
    texts = [" ".join(row.columns["text"].split()) for row in rows[:-1]]
    return [text for text in texts if text]


def _both(folder: Path, rows: Sequence[Mapping[str, Any]], *, holdout: float, seed: int) -> Made:
    train, held = split_rows(rows_of(rows, name="stories"), holdout=holdout, seed=seed)
    write_rows(folder / "train.jsonl", _columns(train))
    write_rows(folder / "held.jsonl", _columns(held))
    return {
        "files": {"train": "train.jsonl", "held": "held.jsonl"},
        "numbers": {"train": len(train), "held": len(held)},
    }


def _columns(rows: Iterable[Row]) -> list[Mapping[str, Any]]:
    return [row.columns for row in rows]


def _shuffled(texts: Sequence[str], seed: int) -> list[str]:
    out = list(texts)
    Random(f"order/{seed}").shuffle(out)
    return out
