"""Small runs side by side: what is done stays done, a diverged run is a finding, a bug stops everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whet.build.trials import Numbers, Trial, run_trials, work
from whet.losses import offline_loss
from whet.recipes.preference_table import SAMPLED, SUMS, best_rate, config_of, names, row_of


def counting(log: Path, *numbers: int) -> list[Trial]:
    return [
        Trial(name=f"n{n}", function="trial_functions:count", arguments={"number": n, "log": str(log)}) for n in numbers
    ]


def run(folder: Path, trials: list[Trial], *, workers: int = 1) -> tuple[dict[str, Numbers], list[str]]:
    told: list[str] = []
    return run_trials(folder, trials, workers=workers, done=lambda trial, _: told.append(trial.name)), told


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    """A second call runs what is new or has other arguments; numbers come in the order of the trials."""
    log, place = tmp_path / "log", tmp_path / "trials"
    found, told = run(place, counting(log, 1, 2), workers=2)
    assert found == {"n1": {"twice": 2.0}, "n2": {"twice": 4.0}} and sorted(told) == ["n1", "n2"]
    more = [
        *counting(log, 3, 1),
        Trial(name="n2", function="trial_functions:count", arguments={"number": 7, "log": str(log)}),
    ]
    found, told = run(place, more)
    assert list(found) == ["n3", "n1", "n2"] and found["n2"] == {"twice": 14.0} and told[0] == "n1"
    assert sorted(log.read_text().split()) == ["n1", "n2", "n2", "n3"]
    assert sorted(path.name for path in place.iterdir()) == ["n1.json", "n2.json", "n3.json"]


def test_a_run_cut_short_begins_anew(tmp_path: Path) -> None:
    """A killed process leaves a folder and no numbers."""
    (tmp_path / "n1").mkdir()
    assert work(tmp_path, *counting(tmp_path / "log", 1)) == {"twice": 2.0}
    assert json.loads((tmp_path / "n1.json").read_text())["numbers"] == {"twice": 2.0}


def test_a_diverged_run_is_a_finding_and_a_bug_is_not(tmp_path: Path) -> None:
    assert work(tmp_path, Trial(name="d", function="trial_functions:diverge")) == {"failed": "not finite: loss/dpo"}
    with pytest.raises(KeyError, match="a bug"):
        work(tmp_path, Trial(name="b", function="trial_functions:break_down"))
    assert not (tmp_path / "b.json").exists()


def test_the_table_has_every_method_that_learns_from_a_dataset() -> None:
    everything = {name for shelf in offline_loss.shelves for name in shelf.names()}
    assert {*names()} == (everything | {*SUMS}) - {*SAMPLED}


@pytest.mark.parametrize(
    "name", [name for name in names() if name in SUMS or any(name in s.names() for s in offline_loss.shelves)]
)
def test_every_method_has_a_configuration(name: str) -> None:
    """Its own defaults, and the file of its kind."""
    files = {kind: f"{kind}.jsonl" for kind in ("pairs", "rankings", "pairs_shuffled", "rankings_shuffled")}
    config = config_of(name, model="m", data=files, rate=1e-3, batch=4, seed=1, shuffled=True)
    assert str(config.data.path).endswith("_shuffled.jsonl") and config.optim.lr == 1e-3
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_a_line_of_the_table() -> None:
    """Wins are averaged over seeds before prompts are resampled; a diverged seed is named."""
    first = {"wins": [1.0, 0.0, 1.0], "gold": 3.0, "kl": 1.0, "chosen": -1.0, "rejected": -2.0, "length": 10.0}
    second = {**first, "wins": [1.0, 1.0, 0.0], "gold": 4.0}
    row = row_of("dpo", 1e-4, [first, {"failed": "x"}, second], [first])
    assert row["win_rate"]["value"] == pytest.approx(2 / 3) and row["win_rate"]["n"] == 3 and row["gold"] == 3.5
    assert row["seeds"] == "67, diverged, 67" and row["control"]["value"] == pytest.approx(2 / 3)
    assert row_of("dpo", 1e-4, [{"failed": "x"}], [])["win_rate"] is None
    assert best_rate({1e-4: {"failed": "x"}, 1e-3: {"failed": "x"}}) == 1e-4
