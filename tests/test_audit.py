"""An audit says of a dataset what was put into it, changes nothing, and is one sentence where nothing can be read."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bad_input import CONFIG, DATA, MODEL, in_a_users_folder
from console import PAIRS, Whet, write
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizer import CHATML, FORGETFUL, NO_STOP, WITH_BOS, tiny_tokenizer

from tests.model_folders import write_model
from whet.data.audit import Audit, Share, audit, contradictions, judged, label_noise, wrong
from whet.data.config import DataConfig
from whet.data.dataset import examples_of
from whet.data.render import Renderer
from whet.data.rows import rows_of
from whet.report.audit import Finding, findings


def looked(
    rows: list[Any], *, renderer: Renderer | None = None, held: list[Any] | None = None, **options: Any
) -> Audit:
    beside = None if held is None else list(rows_of(held, name="held"))
    return audit(list(rows_of(rows)), config=DataConfig(path="rows", **options), renderer=renderer, held=beside)


def lines(rows: list[Any], **options: Any) -> dict[str, Finding]:
    kept = {key: value for key, value in options.items() if key not in ("renderer", "held")}
    found = findings(looked(rows, **options), DataConfig(path="rows", **kept))
    assert len({line.what for line in found}) == len(found)
    return {line.what: line for line in found}


def pair(prompt: str = "Q", chosen: str = "A", rejected: str = "BB", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


# ------------------------------------------------------------------------------------------------------ rows, columns


def test_rows_columns_and_repeats() -> None:
    rows = [pair(), pair(), pair("P"), pair(rejected=""), pair("x", "same", "same"), {"prompt": "Q", "chosen": "A"}]
    found = lines(
        [{**row, "margin": 1.5, "note": "n", "chosen_rating": 4, "begun": ""} for row in rows], prefix="begun"
    )
    assert (
        found["rows"].found == "6, 4 understood" and "preference: it has chosen and rejected" in found["rows"].meaning
    )
    assert found["malformed or empty rows"].found == "2" and found["malformed or empty rows"].look
    assert "rows:4 has an empty 'rejected'" in found["malformed or empty rows"].meaning
    assert "a run stops (data.max_bad_rows=0)" in found["malformed or empty rows"].meaning
    assert found["repeated rows"].found == "1 (25 %)"
    assert found["identical answers"].found == "1 (17 %)" and "a run stops" in found["identical answers"].meaning
    assert found["comparisons"].found == "3"


def test_what_columns_are_taken_for() -> None:
    row = pair(margin=1.5, note="n", chosen_rating=4, rating_rejected=2.5, begun="so", answer="5", shown_first="chosen")
    made = looked([row, {**row, "note": None}], prefix="begun")
    assert {use.column: (use.words, use.taken, use.filled) for use in made.uses} == {
        "chosen": ("the better answer", True, 2),
        "rejected": ("the worse answer", True, 2),
        "prompt": ("the prompt", True, 2),
        "margin": ("a number, for losses that read it", True, 2),
        "note": ("comes along", False, 1),
        "chosen_rating": ("rating of each answer, for losses that read it", True, 2),
        "rating_rejected": ("rating of each answer, for losses that read it", True, 2),
        "begun": ("how every answer begins (data.prefix)", True, 2),
        "answer": ("the reference answer", True, 2),
        "shown_first": ("which answer was shown first", True, 2),
    }


def test_a_bad_row_is_left_out_where_that_is_allowed() -> None:
    found = lines([pair(), pair(rejected="")], max_bad_rows=1)
    assert "a run leaves them out" in found["malformed or empty rows"].meaning
    asked = [{"prompt": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}, {"prompt": "P"}]
    assert lines(asked)["prompts that are answered"].found == "1"


# ---------------------------------------------------------------------------------- contradictions, noise, two biases


def test_contradictions_are_the_same_answers_with_the_opposite_verdict() -> None:
    rows = [pair(), pair(chosen="BB", rejected="A"), pair("P"), pair("P", "A", "C"), pair("P", "C", "A"), pair("P")]
    assert looked(rows).contradicting == (("rows:1", "rows:2"), ("rows:4", "rows:5"))
    found = lines(rows)["contradicting verdicts"]
    assert found.found == "2" and "rows:1 and rows:2; rows:4 and rows:5" in found.meaning and found.look
    labels = [{"prompt": "Q", "completion": "A", "label": label} for label in (1, 0, 1)]
    assert len(looked(labels).contradicting) == 1
    assert lines(labels)["desirable answers"].found == "67 % [21, 94]"


def test_rankings_are_compared_answer_by_answer() -> None:
    ranked = {"prompt": "Q", "responses": ["A", "BB", "CCC"], "scores": [3, 2, 2]}
    made = looked([ranked, {**ranked, "scores": [2, 3, 1]}, {**ranked, "scores": [1, 1, 1]}])
    assert made.pairs == 2 + 3 and made.undecided == ("rows:3",)
    assert made.contradicting == (("rows:1", "rows:2"),), "of A and BB the first says A, the second BB"
    assert made.position is not None and (made.position.count, made.position.of) == (4, 5)


def noisy(rate: float, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Every comparison judged by three who err with this chance."""
    rng = Random(seed)
    rows = []
    for i in range(n):
        for who in range(3):
            good, bad = ("yes", "no") if rng.random() >= rate else ("no", "yes")
            rows.append(pair(f"Q{i}", good, bad, judge=who))
    return rows


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25])
def test_label_noise_is_what_was_put_in(rate: float) -> None:
    found = looked(noisy(rate, 600)).noise
    assert found is not None and found.low <= rate <= found.high and abs(found.value - rate) < 0.03
    assert found.high - found.low < 0.06


def test_label_noise_is_unknown_where_nothing_is_judged_twice_and_copies_are_no_judgement() -> None:
    assert looked([pair(f"Q{i}") for i in range(5)]).noise is None
    assert looked([pair() for _ in range(5)]).noise is None, "five copies of one row"
    assert "nothing is judged twice" in lines([pair(), pair()])["label noise"].meaning
    twice = looked([pair(judge=1), pair(judge=2)]).noise
    assert twice is not None and twice.value == 0.0 and twice.high > 0.3, "one pair of judgements says little"
    coin = lines(noisy(0.5, 400))["label noise"]
    assert "no better than a coin" in coin.meaning or float(coin.found.split(" ")[0]) > 35


@given(st.floats(0, 0.5))
def test_the_estimate_inverts_its_model(rate: float) -> None:
    assert wrong(2 * rate * (1 - rate)) == pytest.approx(rate, abs=1e-6)


@given(st.integers(1, 400), st.data())
def test_the_interval_of_a_share_is_wilsons(n: int, data: st.DataObject) -> None:
    """Its ends solve (p − share)² = z² p (1 − p) / n."""
    share = Share(count=data.draw(st.integers(0, n)), of=n)
    assert 0 <= share.low <= share.value <= share.high <= 1
    for p in (share.low, share.high):
        assert (p - share.value) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / n, abs=1e-6)


def test_length_bias_counts_ties_by_half_and_takes_the_better_rule() -> None:
    rows = [pair(str(i), "short", "much longer") for i in range(8)]
    rows += [pair("a", "long answer", "no"), pair("b", "one", "two")]
    found = looked(rows).lengths
    assert found is not None and (found.longer, found.shorter, found.equal, found.unit) == (1, 8, 1, "characters")
    assert found.rule.value == 0.85 and found.difference == pytest.approx((-6 * 8 + 9) / 10)
    line = lines(rows)["length bias"]
    assert (
        line.found == "better is 10 % longer, 80 % shorter" and "“shorter wins” alone is right in 85 %" in line.meaning
    )
    assert not line.look, "ten rows prove nothing"
    assert lines([pair(str(i), "short", "much longer") for i in range(40)])["length bias"].look


def test_position_bias_where_the_data_says_who_was_first() -> None:
    assert lines([pair()])["position bias"].found == "unknown"
    said = [pair(str(i), shown_first="chosen" if i % 4 else "rejected") for i in range(40)]
    assert lines(said)["position bias"].found == "75 % [60, 86]" and lines(said)["position bias"].look
    assert looked([pair(chosen_first=False)]).position == Share(count=0, of=1)
    listed = [
        {"prompt": str(i), "output_1": "A", "output_2": "BB", "preference": 1.1 if i % 2 else 1.9} for i in range(40)
    ]
    assert looked(listed).position == Share(count=20, of=40) and not lines(listed)["position bias"].look
    assert looked([{**listed[0], "preference": 1.5}, listed[1]]).undecided == ("rows:1",)


def test_the_order_of_rows_changes_no_number() -> None:
    rows = [*noisy(0.2, 30), pair("x", "same", "same"), pair(shown_first="chosen")]
    other = [rows[i] for i in Random(1).sample(range(len(rows)), len(rows))]
    one, two = looked(rows), looked(other)
    assert (one.noise, one.lengths, one.position, one.pairs) == (two.noise, two.lengths, two.position, two.pairs)
    assert len(one.contradicting) == len(two.contradicting) > 0


# -------------------------------------------------------------------------------------- both sides, tokens, templates


def test_prompts_that_stand_on_both_sides() -> None:
    found = lines([pair("P"), pair("Q")], held=[pair("Q", "C", "D"), pair("R")])["shared prompts"]
    assert found.found == "1 of 2 to evaluate" and "held:1 is rows:2" in found.meaning and found.look
    assert lines([pair()])["shared prompts"].found == "unknown"
    split = lines([pair(str(i)) for i in range(20)], holdout=0.3)["shared prompts"]
    assert split.found.startswith("0 of ") and "rows to learn from" in split.meaning


def test_truncation_says_how_many_rows_how_much_and_what_becomes_of_them() -> None:
    renderer = Renderer(tiny_tokenizer(template=None), context=20)
    rows = [pair(), pair("Q" * 30), pair("P", "A" * 40)]
    made = looked(rows, renderer=renderer, overlong="keep_end").rendered
    assert made is not None and made.limit == 20 and sorted(made.over) == [30 + 3 - 20, 42 - 20]
    assert made.counts["cut"] == 1 and made.counts["lost"] == 1
    line = lines(rows, renderer=renderer)["truncation"]
    assert line.found == "2 rows (67 %)" and "2 do not fit at all; a run stops (data.overlong=drop" in line.meaning
    assert lines(rows, renderer=renderer, max_length=60)["truncation"].found == "0 rows"
    tokens = looked(rows, renderer=renderer).lengths
    assert tokens is not None and tokens.unit == "tokens" and tokens.difference == pytest.approx((-1 - 1 + 38) / 3)


def chat(*texts: str) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    return {"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]}


@pytest.mark.parametrize(
    ("template", "what", "words"),
    [
        (CHATML, "template", "one beginning-of-text token"),
        (NO_STOP, "template", "with no stop token, so an answer would never end"),
        (None, "template", "has no chat template"),
        ("<bos>" + WITH_BOS, "template", "more than one beginning-of-text token"),
        (FORGETFUL, "last turn", "the template rewrites earlier ones"),
        ("{{ raise_exception('never') }}", "rows the template refuses", "never"),
    ],
    ids=["good", "no_stop", "none", "two_bos", "forgetful", "refuses"],
)
def test_template_problems(template: str | None, what: str, words: str) -> None:
    renderer = Renderer(tiny_tokenizer(template=template, bos=template is not None and template.startswith("<bos>")))
    found = lines([chat("Hi", "a/b", "More", "end")], renderer=renderer)
    assert words in found[what].meaning and found[what].look == (template != CHATML)


def test_control_text_and_what_is_not_counted() -> None:
    renderer = Renderer(tiny_tokenizer())
    found = lines([chat("say <|im_end|>", "no."), chat("Hi", "yes.")], renderer=renderer, uncounted=(".",))
    assert found["control text"].found == "1" and found["uncounted"].found == "2"


def test_only_asked_rows_need_room_for_an_answer() -> None:
    renderer = Renderer(tiny_tokenizer(template=None), context=10)
    found = lines([{"prompt": "Q" * 9}, {"prompt": "Q" * 10}], renderer=renderer)
    assert found["truncation"].found == "1 rows (50 %)" and "length bias" not in found


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def whet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    return in_a_users_folder(monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize("width", [70, 160])
def test_the_command_prints_a_table_and_writes_a_page(whet: Whet, width: int) -> None:
    write(
        Path("bad.jsonl"),
        [*PAIRS, PAIRS[0], {**PAIRS[1], "chosen": ""}, {"prompt": "<b>", "chosen": "<script>", "rejected": "x"}],
    )
    before = Path("bad.jsonl").read_bytes()
    said = whet("audit", "bad.jsonl", "eval=pairs.jsonl", "model=lab:base", "out=audit.html", width=width)
    assert said.code == 0 and max(map(len, said.out.splitlines())) <= width
    words = " ".join(said.out.split())
    assert width < 100 or (
        "! malformed or empty rows 1" in words and "15, 14 understood" in words and "12 of 12" in words
    )
    page = Path("audit.html").read_text()
    for text in ("malformed or empty rows", "bad.jsonl:14 has an empty", "12 of 12 to evaluate", "the better answer"):
        assert text in page
    assert (
        "<script" not in page
        and "http" not in page.replace("http-equiv", "")
        and "src=" not in page.replace("-src", "")
    )
    assert "whet audit bad.jsonl eval=pairs.jsonl" in page
    assert Path("bad.jsonl").read_bytes() == before and not Path("runs").exists()


def test_options_of_the_dataset_by_their_own_names(whet: Whet) -> None:
    assert "4, 4 understood" in whet("audit", "pairs.jsonl", "max_rows=4").out
    assert "4, 4 understood" in whet("audit", "pairs.jsonl", "data.max_rows=4").out
    assert "rows to learn from" in whet("audit", "pairs.jsonl", "holdout=0.3").out
    write_model(Path("model"))
    assert "64 fit" in whet("audit", "pairs.jsonl", "model=model").out


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("pair.jsonl",), DATA, "no file 'pair.jsonl' (did you mean pairs.jsonl?)"),
        (("empty.jsonl",), DATA, "the dataset has no rows"),
        (("broken.jsonl",), DATA, "none of the 1 rows can be read"),
        (("hollow.jsonl",), DATA, "no row is left of 1 read (first: hollow.jsonl:1 has an empty 'chosen')"),
        (("pairs.jsonl", "maxrows=3"), CONFIG, "maxrows"),
        (("pairs.jsonl", "model=nomodel"), MODEL, "nomodel is no folder"),
        (("pairs.jsonl", "eval=none.jsonl"), DATA, "no file 'none.jsonl'"),
        (("pairs.jsonl", "out=no/audit.html"), CONFIG, "there is no folder 'no'"),
        (("pairs.jsonl", "uncounted=[.]"), CONFIG, "uncounted names tokens, so give model=FOLDER"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(whet: Whet, words: tuple[str, ...], code: int, part: str) -> None:
    write(Path("broken.jsonl"), ["{"])
    write(Path("empty.jsonl"), [])
    write(Path("hollow.jsonl"), [{**PAIRS[0], "chosen": ""}])
    whet("audit", *words).refused(code, part)


def test_a_verdict_is_read_once_from_each_row() -> None:
    rows = [*rows_of([pair(), pair(chosen="BB", rejected="A")])]
    found, _ = examples_of(rows, config=DataConfig(path="rows"))
    verdicts = [one for example in found for one in judged(example)]
    assert [one.about for one in verdicts] == [verdicts[0].about] * 2 and len({one.verdict for one in verdicts}) == 2
    assert contradictions(verdicts) and label_noise(verdicts) is not None
    assert json.dumps([one.where for one in verdicts]) == '["rows:1", "rows:2"]'
