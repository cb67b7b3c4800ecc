"""Rewards that fail: function and row named, the last step saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_input import CONFIG, DATA, GRPO, MODEL, REWARD, in_a_users_folder
from console import Whet


@pytest.fixture
def whet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    return in_a_users_folder(monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("raises", "the reward score raised KeyError: 'gold', on task 'tasks.jsonl:"),
        ("nan", "the reward score returned nan on task 'tasks.jsonl:"),
        ("none", "the reward score gave None for all 4 answers"),
        ("nothing", "the reward score returned None, not a list with one number per answer"),
        ("short", "the reward score returned 1 values for 4 answers; one each is needed"),
        ("words", "the reward score returned the text 'good', not a number, on task 'tasks.jsonl:"),
        (
            "hangs",
            "the reward score did not return within its deadline of 1 s, on a batch of 4 answers, from task 'tasks",
        ),
    ],
)
def test_a_reward_that_fails_in_its_second_step(whet: Whet, name: str, part: str) -> None:
    """Function and row named, the first step saved."""
    words = (*GRPO, f"reward=my.py:{name}", "rewards.0.deadline=1", "rewards.0.name=score", "--out", "run")
    whet(*words).refused(REWARD, part, "; step 1 is saved, and --resume goes on after it")
    (stage,) = Path("run/stages").iterdir()
    assert [p.name for p in (stage / "checkpoints").iterdir()] == ["step_1"]
    assert len((stage / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("sure", "the judge sure returned 1.2 on task 'tasks.jsonl:"),
        ("torn", "the judge torn raised KeyError: 'gold', on task 'tasks.jsonl:"),
        ("never", "the judge never gave None for every comparison of the step"),
    ],
)
@pytest.mark.parametrize("command", ["online_dpo", "spo"])
def test_a_judge_that_fails(whet: Whet, command: str, name: str, part: str) -> None:
    """Function and task named: as with a reward, nothing is learned from what nobody judged."""
    words = ("run", command, *GRPO[2:], f"prefer=my.py:{name}", "--out", "run")
    whet(*words).refused(REWARD, part, "; no step is saved yet")


@pytest.mark.parametrize(
    ("name", "code", "part"),
    [
        ("my.py:god", CONFIG, "my.py has no 'god' (did you mean good?)"),
        ("my.py:value", CONFIG, "my.py:value is of type int; a reward is a function"),
        ("my.py:wants", DATA, "the reward wants asks for gold, which is no column of the data; the data has answer"),
        ("lab:math", DATA, "the reward lab:math judges only the tasks of its own world"),
        ("nomodule.sub:fn", CONFIG, "there is no module 'nomodule'"),
        ("broken.py:fn", REWARD, "broken.py cannot be imported: ModuleNotFoundError: No module named 'nosuch'"),
        ("syntax.py:fn", REWARD, "syntax.py cannot be imported: SyntaxError: invalid syntax, in line 2"),
        ("model:runs/reward-1", MODEL, "runs/reward-1 is no folder"),
    ],
)
def test_a_reward_that_cannot_be_used(whet: Whet, name: str, code: int, part: str) -> None:
    Path("broken.py").write_text("import nosuch\nfrom nosuch import fn\n")
    Path("syntax.py").write_text("def fn(completions):\n    return for\n")
    Path("runs").mkdir()
    whet(*GRPO, f"reward={name}").refused(code, part)
    whet("eval", "lab:base", "data=tasks.jsonl", f"reward={name}", "k=1", "n=2").refused(code, part)
