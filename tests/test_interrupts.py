"""Ctrl-C once and twice, SIGTERM, failures within a real command: nothing saved is lost, one sentence each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crashes import swift_folder
from forge import forge

from whet.train.interrupts import Interrupts


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    with swift_folder() as place:
        forge().ask("kills:prepare", root=str(place))
        yield str(place)


@pytest.fixture(scope="module")
def whole(root: str) -> dict[str, Any]:
    outcome = forge().ask("commands:whole", root=root)
    assert outcome["code"] == 0 and outcome["saved"] == ["step_4"] and outcome["rows"] == 4, outcome
    assert "metrics.jsonl" in outcome["same"] and "final/model.safetensors" in outcome["same"]
    return outcome


def last_line(outcome: dict[str, Any]) -> str:
    assert "Traceback" not in outcome["said"], outcome["said"]
    return outcome["said"].strip().splitlines()[-1]


def resumed_is_whole(outcome: dict[str, Any], whole: dict[str, Any]) -> None:
    assert outcome["resumed"]["code"] == 0, outcome["resumed"]
    assert outcome["resumed"]["same"] == whole["same"]


ONCE = "whet: stopped after step 2 of 4, which is saved in run/stages/01-online; --resume goes on from there"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_once_finishes_the_step_and_saves(root: str, whole: dict[str, Any], name: str) -> None:
    resume = name == "SIGINT"
    outcome = forge().ask("commands:disturbed", root=root, name=name, plan={"2": [name]}, resume=resume)
    assert outcome["code"] == 130 and last_line(outcome) == ONCE
    assert outcome["saved"] == ["step_2"] and outcome["rows"] == 2
    if resume:
        resumed_is_whole(outcome, whole)


def test_twice_leaves_a_reward_that_hangs(root: str) -> None:
    plan = {"2": ["SIGINT", "SIGINT", "hang"]}
    outcome = forge().ask("commands:disturbed", root=root, name="twice", plan=plan, every=1, resume=False)
    assert outcome["code"] == 131 and outcome["seconds"] < 20
    assert last_line(outcome) == "stopping after this step, which will be saved; Ctrl-C again leaves at once"
    assert outcome["saved"] == ["step_1"]


def test_twice_during_the_save_leaves_the_last_checkpoint(root: str, whole: dict[str, Any]) -> None:
    outcome = forge().ask("commands:during_save", root=root)
    assert outcome["code"] == 131
    assert outcome["saved"] == ["step_1"] and outcome["rows"] == 2
    last_line(outcome)
    resumed_is_whole(outcome, whole)


def test_loading_has_no_step_to_finish(root: str) -> None:
    outcome = forge().ask("commands:disturbed", root=root, name="loading", plan={"import": True}, resume=False)
    assert outcome["code"] == 130 and outcome["seconds"] < 20
    assert last_line(outcome) == "whet: stopped; what is saved is kept, and --resume goes on from there"


def test_a_function_stage_is_abandoned_at_once_and_made_again(root: str) -> None:
    outcome = forge().ask("commands:in_a_function_stage", root=root)
    assert outcome["code"] == 130 and outcome["seconds"] < 20
    assert last_line(outcome).startswith("whet: stopped;")
    assert outcome["done"] == ["01-first"]
    assert outcome["resumed"]["code"] == 0, outcome["resumed"]


FAILURES = {
    "nan": r"the reward score returned nan on task '\d+', answer 1: .*",
    "raise": r"the reward score raised KeyError: 'no such answer', on .*",
    "short": r"the reward score returned 3 values for 4 answers.*",
    "hang": r"the reward score did not return within its deadline of 0.5 s, on a batch of 4 answers, from task .*",
}


@pytest.mark.parametrize("act", FAILURES)
def test_a_reward_that_fails_in_step_3_leaves_step_2_saved(root: str, act: str) -> None:
    """Though no save was due; a deadline does not wait for what hangs."""
    outcome = forge().ask(
        "commands:disturbed",
        root=root,
        name=act,
        plan={"3": [act]},
        resume=False,
        deadline=0.5 if act == "hang" else 20.0,
    )
    assert outcome["code"] == 4 and outcome["seconds"] < 20
    assert outcome["saved"] == ["step_2"] and outcome["rows"] == 2
    sentence = f"whet: {FAILURES[act]}; step 2 is saved, and --resume goes on after it"
    assert re.fullmatch(sentence, last_line(outcome)), outcome["said"]


def test_a_failed_reward_once_mended_goes_on_as_if_it_had_not(root: str, whole: dict[str, Any]) -> None:
    """None for every answer teaches nothing; what the failed step answered is not held against the mended one."""
    outcome = forge().ask("commands:disturbed", root=root, name="mended", plan={"3": ["none"]})
    assert outcome["code"] == 4 and "None for all 4 answers" in last_line(outcome)
    resumed_is_whole(outcome, whole)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("completions", "whet: not finite: .*loss/nll.*; nothing was updated.*"),
        ("tasks", "whet: .* logits are not finite.*"),
    ],
)
def test_numbers_that_explode_end_the_run(root: str, kind: str, sentence: str) -> None:
    """A learning rate no weight survives: the first update overflows the forward of the second."""
    outcome = forge().ask(
        "commands:disturbed", root=root, name=f"nan-{kind}", plan={}, lr=1e30, kind=kind, resume=False
    )
    assert outcome["code"] == 5, outcome
    assert outcome["saved"] == ["step_1"] and re.fullmatch(sentence, last_line(outcome)), outcome["said"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "code"), [(["SIGINT"], 130), (["SIGINT", "SIGINT", "hang"], 131), (["SIGTERM"], 130)]
)
def test_the_installed_command(root: str, whole: dict[str, Any], signals: list[str], code: int) -> None:
    """No fork: a fresh interpreter, stopped and resumed, ends with the bits of the forked run that nobody disturbed."""
    folder = forge().ask("commands:placed", root=root, name=f"real-{'-'.join(signals)}", plan={"2": signals})

    def command(*more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "whet", "run", "my.yaml", "--out", "run", *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)

    stopped = command()
    assert stopped.returncode == code and "Traceback" not in stopped.stderr, stopped.stderr
    (Path(folder) / "plan.json").unlink()
    assert command("--resume").returncode == 0
    assert forge().ask("commands:state_of", folder=folder)["same"] == whole["same"]


def test_off_the_main_thread_nothing_is_installed() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with Interrupts() as interrupts:
            seen.append((signal.getsignal(signal.SIGINT), interrupts.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        interrupts.hold()
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.asked
        signal.raise_signal(signal.SIGTERM)  # impatience of a scheduler is no second Ctrl-C
        interrupts.release()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_process_is_refused_by_name(root: str, whole: dict[str, Any]) -> None:
    outcome = forge().ask("commands:two_processes", root=root)
    for other in outcome["others"]:
        assert other["code"] == 6
        assert f"run is in use by process {outcome['owner']} on " in last_line(other)
    assert outcome["code"] == 0 and outcome["same"] == whole["same"]
