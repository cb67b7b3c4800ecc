"""An audit of a dataset as people read it: the same lines on the terminal and on a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.console import Group
from rich.table import Table
from rich.text import Text

from whet.data.audit import Audit, Share, middle
from whet.data.columns import ANSWERED
from whet.data.config import DataConfig
from whet.data.uses import SHOWN_FIRST
from whet.files import explained, replace_file
from whet.report.html import asset
from whet.report.numerals import number, percent

FEW = 3
"""Places that a line names."""
BIASED = 0.55
"""A rule that knows nothing of the text and is right more often than this is worth a look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A line: what was looked at, what was found, and what it means; `look` where something may be wrong."""

    what: str
    found: str
    meaning: str = ""
    look: bool = False


def findings(audit: Audit, config: DataConfig) -> list[Finding]:
    """Every line of an audit, in the order in which rows are read, compared and rendered."""
    lines = [*_rows(audit, config), *_compared(audit, config), *_sides(audit), *_rendered(audit, config)]
    return [line for line in lines if line is not None]


def _rows(audit: Audit, config: DataConfig) -> Iterator[Finding]:
    report = audit.report
    yield Finding(what="rows", found=f"{report.read}, {report.kept} understood", meaning=_kind(audit))
    stops = report.bad > config.max_bad_rows
    end = f"; a run stops (data.max_bad_rows={config.max_bad_rows})" if stops else "; a run leaves them out"
    yield Finding(
        what="malformed or empty rows",
        found=str(report.bad),
        meaning=_few(report.refused) + end if report.bad else "",
        look=report.bad > 0,
    )
    answered = [text for text in report.refused if ANSWERED in text]
    if answered:
        yield Finding(what="prompts that are answered", found=str(len(answered)), meaning=_few(answered), look=True)
    yield Finding(
        what="repeated rows",
        found=_of(report.duplicates, report.kept),
        meaning="the same content as an earlier row; kept, so they count twice" if report.duplicates else "",
        look=report.duplicates > 0,
    )


def _kind(audit: Audit) -> str:
    return f"{audit.report.detected.kind}: {audit.report.detected.why}"


def _compared(audit: Audit, config: DataConfig) -> Iterator[Finding]:
    kind = audit.report.detected.kind
    if kind in ("preference", "ranking"):
        yield Finding(what="comparisons", found=str(audit.pairs), meaning="answers of which one is better")
        yield _identical(audit, config)
    if audit.undecided:
        meaning = f"no answer is better than another: {_few(audit.undecided)}"
        yield Finding(what="rankings without a difference", found=str(len(audit.undecided)), meaning=meaning, look=True)
    if audit.desirable is not None:
        one_sided = audit.desirable.value in (0.0, 1.0)
        words = "of the labels; a method that compares both kinds has only one" if one_sided else "of the labels"
        yield Finding(what="desirable answers", found=_share(audit.desirable), meaning=words, look=one_sided)
    if kind in ("preference", "ranking", "label"):
        yield _contradicting(audit)
        yield _noise(audit)
    if kind in ("preference", "ranking"):
        yield _length(audit)
        yield _position(audit)


def _identical(audit: Audit, config: DataConfig) -> Finding:
    many, read = len(audit.identical), audit.report.read
    limit = f"data.identical_limit={config.identical_limit:g}"
    end = f"a run stops ({limit})" if many > config.identical_limit * read else "a run leaves them out"
    meaning = f"{_few(audit.identical)}; {end}" if many else ""
    return Finding(what="identical answers", found=_of(many, read), meaning=meaning, look=many > 0)


def _contradicting(audit: Audit) -> Finding:
    groups = audit.contradicting
    places = [" and ".join(group[:2]) for group in groups]
    meaning = f"the same answers to the same prompt, the opposite verdict: {_few(places)}" if groups else ""
    return Finding(what="contradicting verdicts", found=str(len(groups)), meaning=meaning, look=bool(groups))


def _noise(audit: Audit) -> Finding:
    noise, how = audit.noise, "estimated from judgements on the same answers (copies of a row are no second judgement)"
    if noise is None:
        return Finding(what="label noise", found="unknown", meaning=f"{how}: nothing is judged twice here")
    shown = f"{percent(noise.value)} [{_bound(noise.low)}, {_bound(noise.high)}]"
    told = f"{noise.disagreement.count:g} of {noise.disagreement.of} pairs of judgements disagree"
    coin = "; no better than a coin can be told" if noise.value >= 0.5 else ""
    return Finding(
        what="label noise", found=f"{shown} of labels wrong", meaning=f"{how}: {told}{coin}", look=noise.value > 0.1
    )


def _length(audit: Audit) -> Finding:
    found = audit.lengths
    if found is None:
        return Finding(what="length bias", found="unknown", meaning="nothing is compared")
    total = found.longer + found.shorter + found.equal
    wins = "longer wins" if found.longer >= found.shorter else "shorter wins"
    shares = f"{percent(found.longer / total)} longer, {percent(found.shorter / total)} shorter"
    rule = f"the rule “{wins}” alone is right in {_share(found.rule)}"
    mean = f"by {_signed(found.difference)} {found.unit} in the mean"
    return Finding(
        what="length bias", found=f"better is {shares}", meaning=f"{mean}; {rule}", look=found.rule.low > BIASED
    )


def _position(audit: Audit) -> Finding:
    if audit.position is None:
        names = " or ".join(SHOWN_FIRST)
        return Finding(what="position bias", found="unknown", meaning=f"no column says what was shown first ({names})")
    listed = audit.report.detected.kind == "ranking"
    meaning = "of comparisons are won by the answer " + (
        "listed first; sorted answers look like that too" if listed else "shown first"
    )
    far = audit.position.low > 0.5 or audit.position.high < 0.5
    return Finding(what="position bias", found=_share(audit.position), meaning=meaning, look=far)


def _sides(audit: Audit) -> Iterator[Finding]:
    if audit.shared is None:
        yield Finding(what="shared prompts", found="unknown", meaning="give eval=FILE, or holdout=SHARE")
        return
    first = [f"{test} is {train}" for train, test in audit.shared.places]
    learned = f"{audit.split[0]} rows to learn from, {audit.split[1]} held out" if audit.split else ""
    yield Finding(
        what="shared prompts",
        found=f"{audit.shared.count} of {audit.shared.of} to evaluate",
        meaning=_few(first) if first else learned,
        look=audit.shared.count > 0,
    )


def _rendered(audit: Audit, config: DataConfig) -> Iterator[Finding]:
    found = audit.rendered
    if found is None:
        yield Finding(what="truncation, template", found="unknown", meaning="give model=FOLDER for its tokenizer")
        return
    if found.broken:
        yield Finding(what="template", found="unusable", meaning=found.broken, look=True)
        return
    if found.sizes:
        yield _lengths(audit, config)
        yield _truncation(audit, config)
    words = {
        "control_text": "rows with control tokens in their text, which are encoded as letters",
        "last_turn": "rows learned from in their last turn only: the template rewrites earlier ones",
        "rewritten": "rows whose answer the template begins otherwise than when it asks for one",
        "unknown": "tokens for letters that the vocabulary lacks",
        "uncounted": "tokens that are not counted (data.uncounted)",
    }
    for name, meaning in words.items():
        if found.counts.get(name):
            title = "unknown letters" if name == "unknown" else name.replace("_", " ")
            yield Finding(what=title, found=str(found.counts[name]), meaning=meaning, look=name != "uncounted")
    if found.faults:
        yield Finding(
            what="rows the template refuses", found=str(len(found.faults)), meaning=_few(found.faults), look=True
        )
    ends = "one beginning-of-text token, a stop token behind every answer"
    if not found.faults and not any(found.counts.get(name) for name in ("last_turn", "rewritten")):
        yield Finding(what="template", found="no problem", meaning=ends)


def _lengths(audit: Audit, config: DataConfig) -> Finding:
    assert audit.rendered is not None
    half, most, longest = middle(audit.rendered.sizes)
    limit = audit.rendered.limit
    room = "the model names no limit" if limit is None else f"{limit} fit"
    return Finding(
        what="tokens of a row",
        found=f"{half} in the median",
        meaning=f"95 % have at most {most}, the longest {longest}; {room}",
    )


def _truncation(audit: Audit, config: DataConfig) -> Finding:
    found = audit.rendered
    assert found is not None
    if not found.over:
        return Finding(what="truncation", found="0 rows")
    cut, lost = found.counts.get("cut", 0), found.counts.get("lost", 0)
    fate = [f"{cut} lose the beginning of their prompt or are divided"] * bool(cut)
    fate += [f"{lost} do not fit at all"] * bool(lost)
    limit = f"data.overlong_limit={config.overlong_limit:g}"
    stops = config.overlong == "error" or lost > config.overlong_limit * audit.report.read
    end = f"; a run stops (data.overlong={config.overlong}, {limit})" if stops else ""
    half, _, longest = middle(found.over)
    much = f"too long by {half} tokens in the median, {longest} at most"
    shown = f"{len(found.over)} rows ({percent(len(found.over) / len(found.sizes))})"
    return Finding(what="truncation", found=shown, meaning=f"{much}: {', '.join(fate)}{end}", look=True)


def _few(places: Sequence[str]) -> str:
    rest = len(places) - FEW
    return "; ".join(places[:FEW]) + (f"; {rest} more" if rest > 0 else "")


def _of(count: int, total: int) -> str:
    return f"{count} ({percent(count / total)})" if count and total else str(count)


def _share(share: Share) -> str:
    return f"{percent(share.value)} [{_bound(share.low)}, {_bound(share.high)}]"


def _bound(share: float) -> str:
    return percent(share).removesuffix(" %")


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def terminal(audit: Audit, config: DataConfig) -> Group:
    """The columns, then the findings; what may be wrong is marked."""
    columns = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("column", "taken for", "filled"):
        columns.add_column(title, overflow="fold", justify="right" if title == "filled" else "left")
    for use in audit.uses:
        style = "" if use.taken else "dim"
        columns.add_row(Text(use.column, style="cyan"), Text(use.words, style=style), Text(str(use.filled)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "found", "what it says"):
        table.add_column(title, overflow="fold")
    for line in findings(audit, config):
        mark = "! " if line.look else "  "
        table.add_row(
            Text(mark + line.what, style="bold yellow" if line.look else ""), Text(line.found), Text(line.meaning)
        )
    return Group(columns, Text(), table)


def write_audit(path: Path, audit: Audit, config: DataConfig, *, title: str, command: str) -> None:
    """Write the audit as one HTML file that holds everything and asks for nothing."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(asset("audit.html.j2")).render(
        title=title,
        command=command,
        style=Markup(asset("report.css")),
        sentence=f"{audit.report.read} rows of kind {_kind(audit)}.",
        lines=findings(audit, config),
        uses=audit.uses,
        refused=[*audit.report.refused, *(audit.rendered.faults if audit.rendered else ())][:50],
    )
    with explained(f"write {path}"):
        replace_file(path, page.encode("utf-8", errors="backslashreplace"))
