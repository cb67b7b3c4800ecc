"""What is wrong with a dataset before anything learns from it: counts and shares, nothing changed. Imports no torch.

    disagreement d = share of pairs of judgements on the same two answers that contradict each other
    label noise  e = (1 − √(1 − 2d)) / 2        each judgement being wrong with chance e, one as another: d = 2e(1 − e)

`audit` reads every row with all limits lifted, so that it counts what a run would refuse. Intervals take comparisons
for independent, which those of one prompt are not quite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist, mean, median

from whet.data.config import DataConfig
from whet.data.dataset import examples_of
from whet.data.example import Example
from whet.data.fit import fit
from whet.data.intake import Report
from whet.data.render import Renderer, plain_prompt
from whet.data.rows import Row, RowFault
from whet.data.splits import Overlap, overlap, split_rows
from whet.data.uses import SHOWN_FIRST, Use, uses_of
from whet.errors import ModelError
from whet.types import Message

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`count` of `of`, with Wilson's score interval (1927) at 95 %.

    >>> s = Share(count=8, of=10)
    >>> f"{s.value:.2f} {s.low:.3f} {s.high:.3f}"
    '0.80 0.490 0.943'
    """

    count: float
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of

    @property
    def low(self) -> float:
        return min(self.value, max(0.0, self._centre - self._reach))

    @property
    def high(self) -> float:
        return max(self.value, min(1.0, self._centre + self._reach))

    @property
    def _centre(self) -> float:
        return (self.value + Z * Z / (2 * self.of)) / (1 + Z * Z / self.of)

    @property
    def _reach(self) -> float:
        spread = self.value * (1 - self.value) / self.of + Z * Z / (4 * self.of**2)
        return Z * math.sqrt(spread) / (1 + Z * Z / self.of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One verdict of a row: of two answers the better, or of one answer whether it is desirable.

    `about` is what was judged, whichever way the verdict went; `copy` is the same for rows that are copies. `first`
    says whether the better one was shown first, where that is known; `lengths` are those of the better and the worse.
    """

    about: tuple[str, ...]
    verdict: bool
    where: str
    copy: int = 0
    first: bool | None = None
    lengths: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How far length alone tells the better answer; `unit` is characters or tokens."""

    unit: str
    longer: int
    shorter: int
    equal: int
    difference: float

    @property
    def rule(self) -> Share:
        """How often the better of the rules "longer wins" and "shorter wins" is right; equal lengths count half."""
        return Share(count=max(self.longer, self.shorter) + self.equal / 2, of=self.longer + self.shorter + self.equal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Repeated judgements: of `disagreement.of` pairs of them so many contradict each other."""

    disagreement: Share

    @property
    def value(self) -> float:
        """The chance that one label is wrong; ½ where nothing better than a coin can be told."""
        return wrong(self.disagreement.value)

    @property
    def low(self) -> float:
        return wrong(self.disagreement.low)

    @property
    def high(self) -> float:
        return wrong(self.disagreement.high)


@dataclass(slots=True, kw_only=True)
class Rendered:
    """What a tokenizer and its template make of the rows; `broken` is why they make nothing of them."""

    limit: int | None
    sizes: list[int] = field(default_factory=list)
    over: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    answers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    broken: str = ""

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Everything found; None where the data says nothing of it."""

    report: Report
    uses: tuple[Use, ...]
    pairs: int
    identical: tuple[str, ...]
    undecided: tuple[str, ...]
    contradicting: tuple[tuple[str, ...], ...]
    repeated: int
    lengths: Lengths | None
    position: Share | None
    noise: Noise | None
    desirable: Share | None
    shared: Overlap | None
    split: tuple[int, int] | None
    rendered: Rendered | None


def audit(
    rows: Sequence[Row], *, config: DataConfig, renderer: Renderer | None = None, held: Sequence[Row] | None = None
) -> Audit:
    """Look at rows as they would be read under `config`; with a renderer also at tokens, with `held` at both sides."""
    found, report = examples_of(rows, config=config)
    rendered = rendering(found, renderer, config) if renderer is not None else None
    answers = rendered.answers if rendered is not None and not rendered.broken else None
    verdicts = [one for example in found for one in judged(example, answers)]
    compared = [one for one in verdicts if one.lengths is not None]
    sides = (
        None if held is not None or not config.holdout else split_rows(rows, holdout=config.holdout, seed=config.seed)
    )
    shared = overlap(rows, held) if held is not None else overlap(*sides) if sides is not None else None
    labels = [example.numbers[0] > 0.5 for example in found if example.kind == "label"]
    return Audit(
        report=report,
        uses=uses_of(rows, config),
        pairs=len(compared),
        identical=tuple(example.where for example in found if _same(example)),
        undecided=tuple(example.where for example in found if _tied(example)),
        contradicting=contradictions(verdicts),
        repeated=sum(len(group) > 1 for group in grouped(verdicts).values()),
        lengths=length_bias(compared, unit="characters" if answers is None else "tokens"),
        position=position_bias(verdicts),
        noise=label_noise(verdicts),
        desirable=Share(count=sum(labels), of=len(labels)) if labels else None,
        shared=shared,
        split=(len(sides[0]), len(sides[1])) if sides is not None else None,
        rendered=rendered,
    )


def judged(example: Example, tokens: Mapping[str, tuple[int, ...]] | None = None) -> Iterator[Judged]:
    """The verdicts of a row: every two answers of which one is better, or one labelled answer.

    Lengths are in characters, or those of `tokens`, which has one per answer by the row's place.
    """
    said = [_said(answer) for answer in example.answers]
    prompt, copy = _said(example.prompt), hash((example.content, repr(sorted(example.columns.items(), key=str))))
    if example.kind == "label":
        yield Judged(about=(prompt, *said), verdict=example.numbers[0] > 0.5, where=example.where, copy=copy)
    if example.kind not in ("preference", "ranking"):
        return
    sizes = [len(_spoken(answer)) for answer in example.answers] if tokens is None else tokens.get(example.where)
    numbers = example.numbers or (1.0, 0.0)
    for i, j in combinations(range(len(said)), 2):
        if numbers[i] == numbers[j] or said[i] == said[j]:
            continue
        best, worst = (i, j) if numbers[i] > numbers[j] else (j, i)
        yield Judged(
            about=(prompt, *sorted((said[i], said[j]))),
            verdict=said[best] < said[worst],
            where=example.where,
            copy=copy,
            first=best == i if example.kind == "ranking" else shown_first(example.columns),
            lengths=(sizes[best], sizes[worst]) if sizes is not None else None,
        )


def shown_first(columns: Mapping[str, object]) -> bool | None:
    """Whether the chosen answer was shown first, where a column says so.

    >>> shown_first({"shown_first": "rejected"}), shown_first({"chosen_first": 1}), shown_first({"margin": 1})
    (False, True, None)
    """
    by_name, by_truth = (columns.get(name) for name in SHOWN_FIRST)
    if by_name in ("chosen", "rejected"):
        return by_name == "chosen"
    return bool(by_truth) if by_truth in (0, 1) and by_truth is not None else None


def grouped(verdicts: Iterable[Judged]) -> dict[tuple[str, ...], list[Judged]]:
    """Judgements by what they are about; a row that is a copy of another is no second judgement."""
    groups: dict[tuple[str, ...], dict[tuple[int, bool], Judged]] = {}
    for one in verdicts:
        groups.setdefault(one.about, {}).setdefault((one.copy, one.verdict), one)
    return {about: list(group.values()) for about, group in groups.items()}


def contradictions(verdicts: Iterable[Judged]) -> tuple[tuple[str, ...], ...]:
    """The places of judgements on the same answers of which some say the opposite of others, a tuple a group."""
    groups = grouped(verdicts).values()
    return tuple(tuple(one.where for one in group) for group in groups if len({one.verdict for one in group}) > 1)


def length_bias(verdicts: Sequence[Judged], *, unit: str) -> Lengths | None:
    """How the better answers' lengths compare; None without any comparison.

    >>> pair = [Judged(about=(), verdict=True, where="", lengths=sizes) for sizes in ((5, 2), (4, 4), (1, 2))]
    >>> found = length_bias(pair, unit="tokens")
    >>> found.longer, found.shorter, found.equal, f"{found.difference:.2f}", found.rule.value
    (1, 1, 1, '0.67', 0.5)
    """
    gaps = [one.lengths[0] - one.lengths[1] for one in verdicts if one.lengths is not None]
    if not gaps:
        return None
    longer, shorter = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    equal = len(gaps) - longer - shorter
    return Lengths(unit=unit, longer=longer, shorter=shorter, equal=equal, difference=mean(gaps))


def position_bias(verdicts: Iterable[Judged]) -> Share | None:
    """How often the answer that was shown (of a ranking: listed) first is the better one; None where nothing says."""
    known = [one.first for one in verdicts if one.first is not None]
    return Share(count=sum(known), of=len(known)) if known else None


def label_noise(verdicts: Iterable[Judged]) -> Noise | None:
    """How often two judgements on the same answers disagree; None where nothing was judged twice.

    >>> def said(about, *verdicts):
    ...     return [Judged(about=(about,), verdict=v, where="", copy=n) for n, v in enumerate(verdicts)]
    >>> found = label_noise([*said("x", True, False), *said("y", True, True), *said("z", False, False, False)])
    >>> found.disagreement.count, found.disagreement.of, f"{found.value:.3f}"             # d = 1/5
    (1, 5, '0.113')
    """
    disagree = pairs = 0
    for group in grouped(verdicts).values():
        yes = sum(one.verdict for one in group)
        disagree += yes * (len(group) - yes)
        pairs += len(group) * (len(group) - 1) // 2
    return Noise(disagreement=Share(count=disagree, of=pairs)) if pairs else None


def wrong(disagreement: float) -> float:
    """The chance e of a wrong label at which two judgements disagree so often: d = 2e(1 − e).

    >>> f"{wrong(2 * 0.2 * 0.8):.2f}", wrong(0.6)
    ('0.20', 0.5)
    """
    return (1 - math.sqrt(max(0.0, 1 - 2 * disagreement))) / 2


def rendering(found: Iterable[Example], renderer: Renderer, config: DataConfig) -> Rendered:
    """Every row as tokens: its size, what becomes of it where it is too long, and what the template does to it."""
    out = Rendered(limit=config.max_length or renderer.context)
    for example in found:
        try:
            _render_one(example, renderer, config, out)
        except RowFault as fault:
            out.faults.append(f"{example.where} {fault}")
        except ModelError as error:
            out.broken = str(error)
            return out
    return out


def _render_one(example: Example, renderer: Renderer, config: DataConfig, out: Rendered) -> None:
    if not example.answers or example.kind == "steps":
        _count_prompt(example, renderer, config, out)
        return
    free = fit(example, renderer, config.model_copy(update={"max_length": 2**40, "overlong": "drop"}))
    out.sizes.append(free.size)
    out.answers[example.where] = tuple(len(one.response) for one in free.rollouts)
    for name in ("last_turn", "rewritten", "control_text", "uncounted"):
        out.count(name, int(getattr(free, name)))
    out.count("unknown", sum(renderer.count_unknown(one.tokens) for one in free.rollouts))
    if out.limit is None or free.size <= out.limit:
        return
    out.over.append(free.size - out.limit)
    kept = config.overlong != "error" and bool(fit(example, renderer, config).rollouts)
    out.count("cut" if kept else "lost")


def _count_prompt(example: Example, renderer: Renderer, config: DataConfig, out: Rendered) -> None:
    """A row that is only asked needs room for an answer behind it."""
    plain = example.form == "plain" or (example.form in ("transcript", "question") and not renderer.chats)
    text = ({"role": "user", "content": plain_prompt(example.prompt, example.form)},) if plain else example.prompt
    size = len(renderer.prompt_ids(text, form="plain" if plain else "chat", tools=example.columns.get("tools")))  # pyright: ignore[reportArgumentType]
    out.sizes.append(size)
    out.count("control_text", int(renderer.has_control_text(example.prompt)))
    limits = [limit for limit in (config.max_prompt, out.limit and out.limit - 1) if limit is not None]
    if limits and size > min(limits):
        out.over.append(size - min(limits))
        out.count("cut" if config.overlong == "keep_end" else "lost")


def middle(sizes: Sequence[int]) -> tuple[int, int, int]:
    """(median, 95th percentile, longest).

    >>> middle([1, 2, 3, 4, 100])
    (3, 100, 100)
    """
    return int(median(sizes)), sorted(sizes)[math.ceil(0.95 * len(sizes)) - 1], max(sizes)


def _same(example: Example) -> bool:
    """Whether all answers to be compared are one."""
    return example.kind in ("preference", "ranking") and all(one == example.answers[0] for one in example.answers)


def _tied(example: Example) -> bool:
    """Whether a ranking prefers nothing."""
    return example.kind == "ranking" and len(set(example.numbers)) == 1


def _said(turns: Sequence[Message]) -> str:
    return "\n".join(f"{m['role']}: {m['content']}" for m in turns)


def _spoken(turns: Sequence[Message]) -> str:
    return "".join(m["content"] for m in turns if m["role"] == "assistant")
