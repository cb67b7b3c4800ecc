"""TRL's own reward functions run unchanged, on conversations and plain text, and agree with calling them directly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from whet.rewards.config import RewardConfig
from whet.rewards.functions import load_reward_function
from whet.types import Group, Rollout, Task

trl = pytest.importorskip("trl.rewards", reason="trl is not installed, so its reward functions cannot be compared")

TEXTS = (
    "<think>\nso\n</think>\nThe answer is \\boxed{\\frac{1}{3}}",
    "no thoughts, \\boxed{\\frac{1}{2}}",
    "a b a b a b",
    "",
)
SOLUTION = "\\frac{1}{3}"


def groups(*, plain: bool) -> list[Group]:
    task = Task(
        id="t",
        messages=({"role": "user", "content": "Q"},),
        meta={"plain": plain, "columns": {"solution": SOLUTION, "unused": 1}},
    )
    rollouts = [
        Rollout(
            task_id="t",
            tokens=(0, *text.encode()),
            mask=(False, *(True,) * len(text.encode())),
            source=("prompt", *("sampled",) * len(text.encode())),  # type: ignore[arg-type]
            text=text,
        )
        for text in TEXTS
    ]
    return [Group(task=task, members=tuple((r, None) for r in rollouts))]


def run(function: str, *, plain: bool, **options: Any) -> list[float | None]:
    reward = load_reward_function(RewardConfig(function=f"trl.rewards:{function}", options=options))
    return [score.value for group in asyncio.run(reward(groups(plain=plain))) for score in group.scores if score]


COMPLETIONS = [[{"role": "assistant", "content": text}] for text in TEXTS]
IDS = [list(text.encode()) for text in TEXTS]


@pytest.mark.parametrize("plain", [False, True], ids=["conversational", "plain"])
def test_format_and_length_functions(plain: bool) -> None:
    assert run("think_format_reward", plain=plain) == trl.think_format_reward(COMPLETIONS) == [1.0, 0.0, 0.0, 0.0]
    punish = trl.get_soft_overlong_punishment(max_completion_len=40, soft_punish_cache=20)
    assert run("get_soft_overlong_punishment", plain=plain, max_completion_len=40, soft_punish_cache=20) == punish(IDS)
    repeat = trl.get_repetition_penalty_reward(ngram_size=2)
    assert run("get_repetition_penalty_reward", plain=plain, ngram_size=2) == repeat(IDS)


@pytest.mark.parametrize("plain", [False, True], ids=["conversational", "plain"])
@pytest.mark.parametrize("name", ["accuracy_reward", "reasoning_accuracy_reward"])
def test_accuracy_functions(name: str, plain: bool) -> None:
    pytest.importorskip("math_verify", reason="math-verify is not installed, which TRL's accuracy functions need")
    expected = getattr(trl, name)(COMPLETIONS, [SOLUTION] * len(TEXTS))
    assert run(name, plain=plain) == expected and set(expected) == {1.0, 0.0}


@pytest.mark.parametrize("plain", [False, True], ids=["conversational", "plain"])
def test_a_function_made_with_options(plain: bool) -> None:
    pytest.importorskip("math_verify", reason="math-verify is not installed, which TRL's accuracy functions need")
    expected = trl.get_cosine_scaled_reward(max_len=100)(COMPLETIONS, [SOLUTION] * len(TEXTS), IDS)
    assert run("get_cosine_scaled_reward", plain=plain, max_len=100) == expected
