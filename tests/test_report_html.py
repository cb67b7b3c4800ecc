from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from whet.errors import RunError
from whet.report.html import write_report
from whet.report.samples import write_samples
from whet.report.table import final_table, write_table
from whet.rows import ROLLOUT_COLUMNS
from whet.rundir import RunDir

EVIL = """<script>alert("1")</script><img src=x onerror='alert(2)'>"><b onclick=x></style></title>{{ 7*7 }}&amp;"""
VOID = {"meta", "input", "br", "img", "link"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


class Page(HTMLParser):
    """Elements with their attributes and text; refuses tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    def text(self, tag: str) -> str:
        return "".join(self.texts.get(tag, []))


def sample(stage: str, **changes: Any) -> dict[str, Any]:
    row = {
        "stage": stage,
        "task_id": "t1",
        "prompt": "say hello",
        "completion": "hello you",
        "tokens": ["hello", " you", "<|end|>"],
        "source": ["sampled", "sampled", "template"],
        "logprobs": [-0.02, -3.0, None],
        "advantage": None,
        "reward": 0.5,
        "parts": {"polite": 0.25},
        "gold": 1.5,
        "why": None,
    }
    return row | changes


def make_run(folder: Path, *, evil: str = "plain") -> Path:
    """A finished run of two stages, with `evil` wherever a model or a user may write."""
    environment = {"python": "3.11", "versions": {"whet": "0.1"}, "note": evil}
    with RunDir.create(
        folder, {"seed": 1, "grpo": {"lr": 0.1}}, origins={"grpo.lr": evil}, environment=environment
    ) as run:
        for number, name in enumerate(("sft", "grpo"), start=1):
            with run.stage(number, name, {"lr": 0.1, "path": evil}, origins={"path": "command line"}) as stage:
                for step in range(1, 51):
                    metrics = {
                        "loss/nll": 1 / step,
                        "reward/mean": step / 10,
                        "reward/std": 0.5,
                        "x" + evil.replace("/", "|"): 1.0,
                    }
                    stage.commit(step, metrics=metrics, timing={"seconds": 0.5})
                stage.append("evals", {"step": 10, "name": evil, "gold": 1.0})
                stage.append("evals", {"step": 50, "name": evil, "gold": {"value": 2.0, "low": 1.5, "high": 2.5}})
                stage.event("warning", text=f"3 rows dropped {evil}", dropped=3)
                stage.mark_done({})
    won = {"value": 0.75, "low": 0.7, "high": 0.8}
    rows = [
        {"stage": "sft", "gold": 1.0, "seconds": 25},
        {"stage": "grpo", "win_rate": won, "gold": 2.0, "seconds": 83},
    ]
    write_table(folder, final_table(rows))
    changed = {
        "completion": evil,
        "tokens": ["a", evil, ""],
        "why": evil,
        "prompt": f"say {evil}",
        "parts": {evil: 1.0},
    }
    write_samples(folder, [sample("sft", task_id=evil), sample("grpo", task_id=evil, **changed)])
    about = {"title": f"run {evil}", "sentence": evil, "commands": [f"whet run {evil}"]}
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def page_of(folder: Path) -> tuple[str, Page]:
    text = write_report(folder).read_text()
    return text, Page(text)


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    text, page = page_of(make_run(tmp_path / "run"))
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base", "form")
        assert not {"src", "srcset", "action", "data", "poster", "background"} & set(attributes)
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    for word in ("url(", "@import", "http:", "https:", "fetch(", "XMLHttpRequest", "import(", "sendBeacon"):
        assert word not in text
    policies = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [POLICY]


def test_what_models_and_users_wrote_stays_text(tmp_path: Path) -> None:
    text, page = page_of(make_run(tmp_path / "run", evil=EVIL))
    _, tame = page_of(make_run(tmp_path / "tame"))
    assert page.count("script") == page.count("style") == 1
    assert page.count("img") == page.count("b") - tame.count("b") == 0
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "7*7" in text, "a template in the data is not run"
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in tame.elements]
    assert EVIL in page.text("code"), "and it is shown as it was written"


def test_the_table_stands_with_its_intervals_and_gaps(tmp_path: Path) -> None:
    text, page = page_of(make_run(tmp_path / "run"))
    assert "75 %" in page.text("td")
    assert "[70, 80]" in page.text("small")
    assert "–" in page.text("td")
    assert "1 min 23 s" in page.text("td")
    assert "grpo has the highest gold win rate vs SFT: 75 % [70, 80]." in text
    assert sum(a.get("class") == "track" for _, a in page.elements) == 1


def test_curves_are_drawn_for_every_stage(tmp_path: Path) -> None:
    _, page = page_of(make_run(tmp_path / "run"))
    captions = page.text("strong")
    assert captions.count("Reward") == captions.count("Loss") == captions.count("Held-out") == 2
    assert "step 50\ngold 2" in page.text("title")
    assert "step 10\nreward/mean 1" in page.text("title")
    assert sum("faint" in (a.get("class") or "") for _, a in page.elements) >= 4, "fifty steps are smoothed"
    assert "50 steps · 25 s" in page.text("small")
    assert page.text("span").count("held out, step 50:") == 2 and "2 [1.5, 2.5]" in page.text("b")


def test_a_formula_keeps_its_lines(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "stages" / "02-grpo" / "about.json").write_text(json.dumps({"formula": "a = b\n    c = d"}))
    text, page = page_of(folder)
    assert "a = b\n    c = d" in page.text("p")
    assert "white-space: pre" in text.split(".formula {")[1].split("}")[0]


def test_samples_stand_side_by_side_with_their_numbers(tmp_path: Path) -> None:
    text, page = page_of(make_run(tmp_path / "run"))
    assert page.text("h4") == "sftgrpo"
    assert "log-probability −3 (5.0 %)" in text
    values = [a["value"] for tag, a in page.elements if tag == "input"]
    assert values == ["none", "source", "logprobs"], "no switch for numbers that no sample has"
    surprise = [a for _, a in page.elements if (a.get("class") or "").startswith("t ")]
    assert surprise[1]["class"] == "t s1 l1"
    assert "gold" in page.text("span")


def test_config_environment_events_and_commands(tmp_path: Path) -> None:
    text, page = page_of(make_run(tmp_path / "run"))
    assert "3 rows dropped plain" in text
    assert "dropped=3" in text
    assert "versions.whet" in page.text("dt")
    assert "whet run plain" in page.text("code")
    chosen = text.split('class="chosen"')
    assert len(chosen) == 4, "one value of the run and one of each stage were set by somebody"
    assert "command line" in text


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    RunDir.create(tmp_path / "run", {"steps": 5}, origins={}, environment={}).close()
    text, page = page_of(tmp_path / "run")
    assert "no steps yet" in text
    assert "unfinished" in text
    assert page.count("h2") == 3
    assert f"whet run {tmp_path / 'run' / 'config.yaml'}" in page.text("code")


def test_a_single_run_shows_its_rollouts_where_it_kept_no_samples(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", {"steps": 2}, origins={}, environment={}) as run:
        for step in (1, 2, 3):
            rollout = {**dict.fromkeys(ROLLOUT_COLUMNS), "step": step, "task_id": f"t{step}", "prompt": "p"}
            rollout |= {"completion": f"c{step}", "tokens": [1], "source": [["sampled", 1]], "parts": {}}
            run.commit(step, metrics={"loss": None if step == 2 else 1.0}, timing={}, rollouts=[rollout])
    _, page = page_of(tmp_path / "run")
    assert page.text("h4") == "run · first steprun · last step"
    assert "c1" in page.text("p")
    assert "c2" not in page.text("p")


def test_half_a_letter_does_not_stop_the_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write_samples(folder, [sample("sft", completion="\ud800", tokens=["\ud800", "", ""], logprobs=None)])
    assert "\\ud800" in write_report(folder).read_text()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(RunError, match="is not a run folder"):
        write_report(tmp_path)
    write_samples(folder, [sample("sft"), sample("grpo", logprobs=[0.0])])
    with pytest.raises(RunError, match=r"samples\.jsonl, line 2: logprobs and tokens differ in length"):
        write_report(folder)
    write_samples(folder, [])
    (folder / "table.json").write_text('{"columns": 3}')
    with pytest.raises(RunError, match=r"table\.json is not a table"):
        write_report(folder)


def test_reports_and_evaluation_do_not_import_torch() -> None:
    modules = (
        "whet.report.html, whet.report.live, whet.report.table, whet.eval.evaluate, whet.eval.chat, whet.eval.stats"
    )
    code = f"import sys, {modules}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
