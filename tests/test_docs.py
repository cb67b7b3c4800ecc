"""The docs are made of the code: generated pages are fresh, every metric and name is written down, the README runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import whet
from whet.catalogue import shelves
from whet.rows import ROLLOUT_COLUMNS, ROLLOUT_EXTRAS
from whet.train import monitors, record, step

ROOT = Path(__file__).resolve().parents[1]


def test_generated_pages_are_fresh() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert (ROOT / "docs" / "methods.md").read_text() == made["methods"](), "run python docs/generate.py"
    assert (ROOT / "docs" / "commands.md").read_text() == made["commands"](), "run python docs/generate.py"


def test_every_name_has_a_row() -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    for shelf in shelves():
        for name in shelf.names():
            assert f"| `{name}` |" in page


def test_every_metric_is_explained() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for module in (monitors, record, step):
        source = Path(module.__file__ or "").read_text()
        for name in re.findall(r'"([a-z_]+(?:/[a-z_]+)?)": (?:mean|std|Mean|Max|Sum|Std)', source):
            assert name in page, name


def test_the_rows_of_rollouts_are_written_down() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text().partition("# Rollouts")[2]
    written = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, flags=re.M))
    assert written == {**ROLLOUT_COLUMNS, **ROLLOUT_EXTRAS}


def test_exports() -> None:
    assert whet.__all__ == sorted(whet.__all__, key=str.lower) or set(whet.__all__) == {"Run", "__version__", "run"}
    assert all(hasattr(whet, name) for name in whet.__all__)


def test_the_readme_snippet_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    text = (ROOT / "README.md").read_text()
    snippet = next(block for block in re.findall(r"```python\n(.*?)```", text, flags=re.S) if "import whet" in block)
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), space)
    run = space["run"]
    assert isinstance(run, whet.Run) and run.report.is_file() and len(run.rollouts()) == 2 * 4 * 4
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(run.rollouts())
    assert set(frame.columns) == set(ROLLOUT_COLUMNS) and len(frame) == 32
    assert frame["reward"].dtype == float and (frame["reward"] < 0).all()
    assert (frame["tokens"].map(len) == frame["length"]).all() and (
        frame["advantage"].map(len) == frame["length"]
    ).all()
    assert "held-out" not in capsys.readouterr().err


def test_the_readme_reward_function_is_the_signature() -> None:
    text = (ROOT / "README.md").read_text()
    snippet = next(block for block in re.findall(r"```python\n(.*?)```", text, flags=re.S) if "def score" in block)
    space: dict[str, object] = {}
    exec(snippet, space)
    assert space["score"](["q"], ["it is 4"], ["4"]) == [1.0]  # type: ignore[operator]
