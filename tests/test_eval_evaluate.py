from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from random import Random

import pytest

from whet.errors import ConfigError, DataError, RewardError
from whet.eval.evaluate import evaluate, gold_win_rate
from whet.rewards.functions import function_reward
from whet.train.source import sample_groups
from whet.types import Completion, Group, Request, Score, Task

TASKS = [Task(id=f"t{i}", messages=({"role": "user", "content": f"{i} + 1 ="},), answer=str(i + 1)) for i in range(20)]


class Echo:
    """Answers right with a fixed chance, by the key's noise; every third answer to a task is cut."""

    def __init__(self, chance: float) -> None:
        self.chance = chance
        self.batches: list[int] = []

    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        self.batches.append(len(requests))
        return [[self.answer(request, i) for i in range(request.n)] for request in requests]

    def answer(self, request: Request, i: int) -> Completion:
        right = Random(f"{request.key.words}/{i}").random() < self.chance
        text = str(request.prompt[0] + 1) if right else "?"
        return Completion(
            tokens=(1,) * (i + 1),
            logprobs=(-0.5,) * (i + 1),
            log_mass=(0.0,) * (i + 1),
            text=text,
            stopped="length" if i == 2 else "stop",
        )


def render(task: Task) -> tuple[int, ...]:
    return (int(task.prompt_text.split()[0]), 0)


async def exact(groups: Sequence[Group]) -> list[Group]:
    return [g.scored([Score(value=float(r.text == g.task.answer)) for r in g.rollouts]) for g in groups]


async def graded(groups: Sequence[Group]) -> list[Group]:
    return [
        g.scored([Score(value=0.3 * r.length, parts={"correct": float(r.text == g.task.answer)}) for r in g.rollouts])
        for g in groups
    ]


def test_the_numbers_are_those_of_the_answers() -> None:
    found = evaluate(Echo(0.5), TASKS, render, exact, k=3, seed=0)
    rewards = [r for row in found.rewards() for r in row]
    assert found.reward is not None
    assert found.reward.value == pytest.approx(sum(r or 0 for r in rewards) / 60)
    assert found.pass_at[1].value == pytest.approx(found.reward.value)
    assert found.pass_at[3].value == pytest.approx(sum(any(row) for row in found.rewards()) / 20)
    assert found.truncated.value == pytest.approx(1 / 3)
    assert found.length.value == pytest.approx(2.0)
    assert [row["metric"] for row in found.table()] == ["mean reward", "pass@1", "pass@3", "truncated", "mean length"]


def test_chunks_do_not_change_the_answers() -> None:
    small, large = Echo(0.5), Echo(0.5)
    one = evaluate(small, TASKS, render, exact, k=2, seed=3, chunk=7)
    other = evaluate(large, TASKS, render, exact, k=2, seed=3, chunk=100)
    assert (small.batches, large.batches) == ([7, 7, 6], [20])
    assert one == other


def test_repeated_task_ids_draw_different_noise() -> None:
    found = evaluate(Echo(0.5), [TASKS[0]] * 40, render, exact, k=1, seed=0)
    assert 5 < sum(row[0] or 0 for row in found.rewards()) < 35


def test_a_part_named_correct_decides_where_the_reward_is_graded() -> None:
    found = evaluate(Echo(1.0), TASKS, render, graded, k=2, seed=0)
    assert found.pass_at[1].value == 1.0
    assert found.reward is not None
    assert found.reward.value == pytest.approx(0.45)


def test_no_pass_at_k_where_right_is_not_defined() -> None:
    async def half(groups: Sequence[Group]) -> list[Group]:
        return [g.scored([Score(value=0.5) for _ in g.rollouts]) for g in groups]

    assert evaluate(Echo(1.0), TASKS, render, half, k=2, seed=0).pass_at == {}


def test_what_could_not_be_judged_is_counted_and_not_zero() -> None:
    async def sometimes(groups: Sequence[Group]) -> list[Group]:
        return [
            g.scored(
                [Score(value=None, fault="infrastructure") if r.index == 0 else Score(value=1.0) for r in g.rollouts]
            )
            for g in groups
        ]

    async def never(groups: Sequence[Group]) -> list[Group]:
        return [g.scored([Score(value=None) for _ in g.rollouts]) for g in groups]

    found = evaluate(Echo(1.0), TASKS, render, sometimes, k=3, seed=0)
    assert found.unscored == 20
    assert found.reward is not None
    assert found.reward.value == 1.0
    assert set(found.pass_at) == {1}, "no prompt has three judged answers"
    nothing = evaluate(Echo(1.0), TASKS, render, never, k=3, seed=0)
    assert (nothing.reward, nothing.pass_at, nothing.unscored) == (None, {}, 60)


def test_a_reward_is_given_answers_as_in_training() -> None:
    """The completion of a chat is what the assistant said, without the question in front of it."""
    seen: list[object] = []

    def look(prompts: list[object], completions: list[object]) -> list[float]:
        seen.append((prompts[0], completions[0]))
        return [0.0 for _ in completions]

    evaluate(Echo(1.0), TASKS[:1], render, function_reward(look), k=1, seed=0)
    assert seen == [([{"role": "user", "content": "0 + 1 ="}], [{"role": "assistant", "content": "1"}])]


def test_gold_stands_beside_the_reward_and_makes_win_rates() -> None:
    good = evaluate(Echo(0.9), TASKS, render, graded, k=2, seed=0, gold=exact)
    bad = evaluate(Echo(0.1), TASKS, render, graded, k=2, seed=0, gold=exact)
    assert good.gold_reward is not None
    assert good.gold_reward.value > 0.7
    assert gold_win_rate(good, bad, seed=0).low > 0.7
    assert gold_win_rate(good, good, seed=0).value == pytest.approx(0.5)
    with pytest.raises(DataError, match="different tasks"):
        gold_win_rate(good, evaluate(Echo(0.1), TASKS[:5], render, graded, k=2, seed=0), seed=0)


def test_measures_are_summarised_like_rewards() -> None:
    found = evaluate(
        Echo(1.0), TASKS, render, exact, k=2, seed=0, measures={"kl": lambda groups: [[0.1, None] for _ in groups]}
    )
    assert found.numbers()["kl"].value == pytest.approx(0.1)


def test_json_is_plain_and_complete() -> None:
    found = json.loads(json.dumps(evaluate(Echo(0.5), TASKS, render, graded, k=2, seed=0, gold=exact).json()))
    assert (found["prompts"], found["k"], len(found["tasks"])) == (20, 2, 20)
    row = found["tasks"][1]
    assert row["prompt"] == "1 + 1 ="
    assert len(row["completions"]) == len(row["rewards"]) == len(row["gold"]) == len(row["parts"]) == 2


def test_evaluate_works_inside_a_running_event_loop() -> None:
    async def notebook() -> float:
        found = evaluate(Echo(1.0), TASKS, render, exact, k=1, seed=0)
        assert found.reward is not None
        return found.reward.value

    async def broken(groups: Sequence[Group]) -> list[Group]:
        raise RewardError("the grader is gone")

    async def failing() -> None:
        evaluate(Echo(1.0), TASKS, render, broken, k=1, seed=0)

    assert asyncio.run(notebook()) == 1.0
    with pytest.raises(RewardError, match="grader is gone"):
        asyncio.run(failing())


def test_the_policy_is_sampled_inside_a_running_event_loop() -> None:
    """`whet.run` in a notebook."""

    async def notebook() -> list[Group]:
        asked = [(task, 0) for task in TASKS[:2]]
        return sample_groups(Echo(1.0), render, exact, asked, n=2, seed=0, step=1, stream="train")

    assert [score.value for group in asyncio.run(notebook()) for score in group.scores if score] == [1.0] * 4


def test_bad_input_is_refused_in_one_sentence() -> None:
    async def lossy(groups: Sequence[Group]) -> list[Group]:
        return (await exact(groups))[1:]

    with pytest.raises(ConfigError, match="k = 0"):
        evaluate(Echo(1.0), TASKS, render, exact, k=0, seed=0)
    with pytest.raises(DataError, match="no tasks"):
        evaluate(Echo(1.0), [], render, exact, k=1, seed=0)
    with pytest.raises(RewardError, match="given 20 groups and gave back 19"):
        evaluate(Echo(1.0), TASKS, render, lossy, k=1, seed=0)


def test_progress_counts_prompts() -> None:
    seen: list[tuple[int, int]] = []
    evaluate(
        Echo(1.0), TASKS, render, exact, k=1, seed=0, chunk=8, progress=lambda done, all_: seen.append((done, all_))
    )
    assert seen == [(8, 20), (16, 20), (20, 20)]
