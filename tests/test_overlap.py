"""Asynchronous rewards begin while other groups are still being sampled; what comes out is the same. By events only."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from loop_cases import CASES, Case, drive, save_tiny_model

from whet.errors import RewardError
from whet.journal import Journal
from whet.rewards.combine import Combined, Weighted
from whet.rewards.config import RewardConfig
from whet.rewards.deadline import Caller
from whet.rewards.functions import function_reward
from whet.rundir import RunDir
from whet.train.scores import Journaled
from whet.train.source import sample_groups
from whet.types import Completion, Group, Request, Task

N = 2
TASKS = [(Task(id=name, messages=()), 0) for name in "abc"]
PATIENCE = 20.0


class Scripted:
    """An engine whose completions end in a given order; `before` is called before each, in the sampling thread."""

    def __init__(self, before: Callable[[int], None] = lambda number: None, order: Sequence[int] = (0, 1, 2)) -> None:
        self.before, self.order = before, order

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, int, Completion]]:
        for number in self.order:
            for index in reversed(range(requests[number].n)):
                self.before(number)
                tokens = (10 * number + index + 1,)
                yield (
                    number,
                    index,
                    Completion(tokens=tokens, logprobs=(0.0,), log_mass=(0.0,), text=f"{tokens[0]}", stopped="stop"),
                )

    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        raise AssertionError("an engine that streams is asked to stream")


def scored(engine: Any, reward: Any, *, overlap: bool = True) -> list[list[float | None]]:
    groups = sample_groups(
        engine, lambda task: (1, 2), reward, TASKS, n=N, seed=0, step=1, stream="train", overlap=overlap
    )
    assert [group.task.id for group in groups] == ["a", "b", "c"]
    assert [[r.index for r in group.rollouts] for group in groups] == [list(range(N))] * 3
    return [[score.value for score in group.scores if score is not None] for group in groups]


def combined(*functions: Callable[..., Any], deadline: float = PATIENCE) -> Combined:
    made = [function_reward(function, deadline=deadline) for function in functions]
    return Combined(tuple(Weighted(name=one.name, reward=one) for one in made))


def early_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "whet-early"]


async def number(task: object, rollout: Any) -> float:
    return float(rollout.text)


RIGHT = [[1.0, 2.0], [11.0, 12.0], [21.0, 22.0]]


@pytest.mark.parametrize("of_group", [False, True], ids=["answer", "group"])
def test_the_first_group_is_being_scored_before_the_last_is_sampled(of_group: bool) -> None:
    began, seen = threading.Event(), []

    def before(number: int) -> None:
        if number == 2:
            seen.append(began.wait(PATIENCE))

    async def answer(task: object, rollout: Any) -> float:
        began.set()
        return float(rollout.text)

    async def siblings(group: Group) -> list[float]:
        began.set()
        return [float(r.text) for r in group.rollouts]

    assert scored(Scripted(before), combined(siblings if of_group else answer)) == RIGHT
    assert seen == [True] * N and early_threads() == []


def test_the_switch_waits_for_the_whole_step() -> None:
    calls: list[str] = []

    async def answer(task: object, rollout: Any) -> float:
        calls.append(rollout.text)
        return float(rollout.text)

    engine = Scripted(lambda number: calls.append("sampling"))
    assert scored(engine, combined(answer), overlap=False) == RIGHT
    assert calls[: 3 * N] == ["sampling"] * 3 * N


def test_slow_rewards_wait_together() -> None:
    """Every call waits until all six are there: were one to wait for another, none would end."""
    there: list[str] = []

    async def answer(task: object, rollout: Any) -> float:
        there.append(rollout.text)
        while len(there) < 3 * N:
            await asyncio.sleep(0.001)
        return float(rollout.text)

    assert scored(Scripted(order=(2, 0, 1)), combined(answer)) == RIGHT


def test_what_sees_the_whole_step_is_called_once_with_it() -> None:
    calls: list[list[str]] = []

    def batch(completions: list[str], **columns: Any) -> list[float]:
        calls.append(list(completions))
        return [float(c) for c in completions]

    async def later(completions: list[str], **columns: Any) -> list[float]:
        return batch(completions)

    def plain(task: object, rollout: Any) -> float:
        return 0.0

    assert scored(Scripted(order=(2, 1, 0)), combined(batch, later, number, plain)) == [
        [3 * value for value in row] for row in RIGHT
    ]
    assert calls == [["1", "2", "11", "12", "21", "22"]] * 2


def test_an_error_is_the_same_and_leaves_no_thread() -> None:
    async def broken(task: object, rollout: Any) -> float:
        if rollout.text == "12":
            raise KeyError("gold")
        return 1.0

    said = []
    for overlap in (True, False):
        with pytest.raises(RewardError) as error:
            scored(Scripted(), combined(broken), overlap=overlap)
        said.append(str(error.value))
    assert said[0] == said[1] and "raised KeyError" in said[0] and "task 'b', answer 1" in said[0]
    assert early_threads() == []


def test_a_deadline_holds_for_what_began_early() -> None:
    async def hangs(task: object, rollout: Any) -> float:
        if rollout.text == "1":
            await asyncio.sleep(PATIENCE)
        return 1.0

    began = time.monotonic()
    with pytest.raises(RewardError, match=r"did not return within its deadline of 0.1 s, on task 'a', answer 0"):
        scored(Scripted(), combined(hangs, deadline=0.1))
    assert time.monotonic() - began < PATIENCE / 2 and early_threads() == []


def test_ctrl_c_in_the_sampling_cancels_what_began() -> None:
    began, ended = threading.Event(), threading.Event()

    async def waits(task: object, rollout: Any) -> float:
        began.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.set()
        return 1.0

    def before(number: int) -> None:
        if number == 1:
            assert began.wait(PATIENCE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(Scripted(before), combined(waits))
    assert ended.wait(PATIENCE) and early_threads() == []


def test_a_cancellation_just_as_a_call_ends_is_not_lost() -> None:
    """Else what began early, and the run's end with it, would wait for the slowest reward."""
    called = threading.Event()

    class Slow:
        def __await__(self) -> Any:
            return asyncio.sleep(PATIENCE).__await__()

    def function() -> Slow:
        called.set()
        return Slow()

    async def main() -> None:
        task = asyncio.create_task(Caller().call(function, seconds=PATIENCE))
        await asyncio.sleep(0)
        called.wait(PATIENCE)
        time.sleep(0.05)  # the loop stands still: it has not yet seen that the call has returned
        await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=PATIENCE / 2)
        assert done and task.cancelled()

    asyncio.run(main())


def test_what_the_journal_has_is_not_begun(tmp_path: Path) -> None:
    calls: list[str] = []

    async def counted(task: object, rollout: Any) -> float:
        calls.append(rollout.text)
        return float(rollout.text) + len(calls)

    found = []
    for _ in range(2):
        journal = Journal(tmp_path / "journal.jsonl", writable=True)
        found.append(scored(Scripted(), Journaled(reward=combined(counted), journal=journal, step=1)))
        journal.close()
    assert found[0] == found[1] and len(calls) == 3 * N


async def patient(task: object, rollout: Any) -> float:
    """Longer answers are judged sooner."""
    await asyncio.sleep(0.02 / (1 + rollout.length))
    return sum(rollout.response) / 100


def test_a_run_is_the_same_with_and_without(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    case = CASES["grpo"](tmp_path / "model")
    rewards = (*case.config.model_dump()["rewards"], RewardConfig(function="code:patient", name="patient"))
    config = type(case.config).model_validate({**case.config.model_dump(), "rewards": rewards, "steps": 2})
    for overlap in (True, False):
        made = Case(
            config=config.model_copy(update={"overlap": overlap}), objects={**case.objects, "code:patient": patient}
        )
        drive(made, tmp_path / str(overlap))
    runs = [RunDir.open(tmp_path / str(overlap) / "stages/01-loop") for overlap in (True, False)]
    for name in ("metrics", "rollouts", "evals"):
        rows = [[{k: v for k, v in row.items() if k != "run"} for row in run.rows(name)] for run in runs]
        assert rows[0] == rows[1] != []
