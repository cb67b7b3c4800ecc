from __future__ import annotations

import io

import pytest
from rich.console import Console

from whet.report.live import Live, Progress


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=terminal)


def shown(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_lines_where_there_is_no_terminal_come_every_few_seconds() -> None:
    clock, screen = Clock(), console()
    with Live(100, "grpo", console=screen, clock=clock, every=10.0) as live:
        for step in range(1, 101):
            clock.now += 1.0
            live.update(step, {"loss": 1.0 / step})
    lines = shown(screen).splitlines()
    assert len(lines) == 11
    assert "step 1/100" in lines[0]
    assert "step 11/100 · 11 % · 1 s a step · 1 min 29 s left" in lines[1]
    assert "step 100/100" in lines[-1]


def test_a_recipe_says_which_stage_and_how_long_all_takes() -> None:
    clock, screen = Clock(), console()
    with Live(0, "quickstart", plan={"sft": 10.0, "grpo": 30.0}, console=screen, clock=clock, every=0.0) as live:
        live.stage("sft", 0)
        live.stage("sft", 10)
        for step in range(1, 11):
            clock.now += 2.0
            live.update(step, {})
        assert live.progress.share() == pytest.approx(0.25)
        assert live.progress.left(clock.now) == pytest.approx(60.0), (
            "the plan said 30 s; this machine takes twice as long"
        )
        live.stage("grpo", 10)
        clock.now += 1.0
        live.update(1, {})
        assert live.progress.place == "2/2"
        assert live.progress.share() == pytest.approx(0.25 + 0.075)
    assert "[1/2] sft · step 5/10" in shown(screen)
    assert "[2/2] grpo · step 1/10" in shown(screen)


def test_a_stage_finished_earlier_is_done_and_does_not_bend_the_speed() -> None:
    clock = Clock()
    with Live(0, "r", plan={"a": 10.0, "b": 10.0, "c": 10.0}, console=console(), clock=clock) as live:
        live.skip("a")
        live.stage("b", 10)
        for step in range(1, 11):
            clock.now += 3.0
            live.update(step, {})
        assert live.progress.place == "2/3"
        assert live.progress.left(clock.now) == pytest.approx(30.0)


def test_pace_counts_from_the_first_step_seen() -> None:
    """A run resumed at step 50 has not done 50 steps in no time; a slow first step is not every step."""
    clock = Clock()
    with Live(100, "r", console=console(), clock=clock) as live:
        clock.now += 60.0
        live.update(51, {})
        assert live.progress.pace() is None
        clock.now += 2.0
        live.update(52, {})
        assert live.progress.pace() == pytest.approx(2.0)
        assert live.progress.stage_left(clock.now + 6.0) == pytest.approx(90.0)


def test_the_terminal_shows_bars_and_numbers_and_is_given_back() -> None:
    clock, screen = Clock(), console(terminal=True)
    with pytest.raises(RuntimeError), Live(0, "r", plan={"a": 1.0, "b": 1.0}, console=screen, clock=clock) as live:
        live.stage("b", 4)
        clock.now += 1.0
        live.update(1, {"reward/mean": 0.5})
        clock.now += 1.0
        live.update(2, {"reward/mean": 0.75, "[red]kl": -0.25})
        live.say("[bold]a file was written")
        raise RuntimeError
    text = shown(screen)
    assert "whole run" in text
    assert "2/4" in text
    assert "2 s left" in text
    assert "0.75" in text
    assert "[red]kl" in text
    assert "[bold]a file" in text
    assert text.endswith("\x1b[?25h") or "\x1b[?25h" in text[-20:], "the cursor is back"


def test_a_stage_outside_the_plan_is_a_bug() -> None:
    with (
        Live(0, "r", plan={"a": 1.0, "b": 1.0}, console=console()) as live,
        pytest.raises(AssertionError, match="a, b, not c"),
    ):
        live.stage("c", 1)


def test_steps_may_be_unknown() -> None:
    state = Progress(title="r", plan={"r": 1.0}, name="r", total=0, step=7, now=3.0, began=(1, 0.0))
    assert (state.here(), state.left(5.0)) == (0.0, None)
