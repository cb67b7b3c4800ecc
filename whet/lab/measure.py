"""What a model can do in a lab world before anything is learnt: how good it is, and how much room is left above."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, pstdev
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from whet.lab.data import tasks
from whet.lab.worlds import gold, world
from whet.types import Task

LONGEST_ANSWER = 40


@torch.no_grad()
def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Task], *, seed: int, k: int = 1
) -> list[list[str]]:
    """k sampled answers to each task at temperature 1 over the whole vocabulary."""
    torch.manual_seed(seed)
    found: list[list[str]] = []
    for start in range(0, len(asked), 64):
        talks: list[list[dict[str, Any]]] = [[{**m} for m in task.messages] for task in asked[start : start + 64]]
        told = tokenizer.apply_chat_template(talks, add_generation_prompt=True, padding=True, return_dict=True)
        prompt = {name: torch.tensor(rows) for name, rows in told.items()}  # type: ignore[union-attr]
        options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_return_sequences": k}
        made = model.generate(**prompt, **options, max_new_tokens=LONGEST_ANSWER)  # type: ignore[operator]
        texts = tokenizer.batch_decode(made[:, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        found += [texts[row * k : (row + 1) * k] for row in range(len(talks))]
    return found


def head_room(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, *, n: int = 200, k: int = 8, seed: int = 0
) -> dict[str, float]:
    """On n test tasks of a world with k samples each: mean gold, mean best of k, spread within a prompt, full marks.

    `pass@1` is the share of samples that reach the world's best value (within 0.01), `pass@k` the share of prompts with
    one that does, `spread` the standard deviation of gold among one prompt's samples, averaged over prompts.
    """
    asked = tasks(name, "test", n, seed)
    values = [
        [gold(task, text)[0] for text in texts]
        for task, texts in zip(asked, answers(model, tokenizer, asked, seed=seed, k=k), strict=True)
    ]
    full = world(name).best - 0.01
    return {
        "gold": round(mean(mean(row) for row in values), 4),
        f"best_of_{k}": round(mean(max(row) for row in values), 4),
        "spread": round(mean(pstdev(row) for row in values), 4),
        "pass@1": round(mean(mean(value >= full for value in row) for row in values), 4),
        f"pass@{k}": round(mean(max(row) >= full for row in values), 4),
    }
