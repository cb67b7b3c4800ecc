"""A user's folder and commands, for the tests of what is refused in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from console import CHATS, PAIRS, TASKS, Whet, console, write

from whet.errors import ConfigError, DataError, ModelError, RewardError, RunError

REWARDS = """
import math, time
calls = [0]

def good(completions, **columns):
    return [float(len(set(str(c)))) + i for i, c in enumerate(completions)]

def second(act):
    def score(completions, **columns):
        calls[0] += 1
        return act(completions) if calls[0] > 1 else good(completions)
    return score

def fail(completions):
    raise KeyError("gold")

raises = second(fail)
nan = second(lambda completions: [math.nan for _ in completions])
none = second(lambda completions: [None for _ in completions])
nothing = second(lambda completions: None)
short = second(lambda completions: [1.0])
words = second(lambda completions: ["good" for _ in completions])
hangs = second(lambda completions: time.sleep(8))
value = 3

def prefer(task, a, b):
    return 0.5 + 0.5 * (a > b) - 0.5 * (a < b)

def sure(task, a, b):
    return 1.2

def torn(task, a, b):
    raise KeyError("gold")

def never(task, a, b):
    return None

def wants(completions, gold, **columns):
    return [1.0 for _ in completions]
"""


GRPO = ("run", "grpo", "model=lab:base", "data=tasks.jsonl", "prompts=2", "group=2", "max_new_tokens=4", "steps=2")
GRPO = (*GRPO, "data.holdout=0")
ASK = ("run", "online_dpo", *GRPO[2:4], "prompts=2", "max_new_tokens=4", "steps=2", "data.holdout=0")
SFT = ("run", "sft", "model=lab:base", "data=chats.jsonl", "data.holdout=0", "batch=4")
DPO = ("run", "dpo", "model=lab:base", "data=pairs.jsonl", "data.holdout=0", "steps=1")
CONFIG, DATA, MODEL = ConfigError.exit_code, DataError.exit_code, ModelError.exit_code
REWARD, RUN = RewardError.exit_code, RunError.exit_code


def in_a_users_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Whet:
    """The command in an empty folder with a user's files."""
    monkeypatch.chdir(folder)
    for name, rows in (("tasks", TASKS), ("pairs", PAIRS), ("chats", CHATS)):
        write(Path(f"{name}.jsonl"), rows)
    Path("my.py").write_text(REWARDS)
    return console(monkeypatch, capsys)
