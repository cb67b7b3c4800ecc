"""Simulated annotators: who sees two answers, knows their gold reward, and still errs in known ways.

Every judgement is a function of (seed, id), so a pair is labelled the same in any order, batch or process.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What an annotator looks at: the exact reward, the length in words, five aspects in [0, 1]."""

    gold: float
    length: int = 0
    aspects: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """`first`: the first answer is preferred; `margin`: how strongly, in the annotator's own units."""

    first: bool
    margin: float = 1.0


class Annotator(Protocol):
    """Whoever can compare two answers and knows how often the verdict follows gold."""

    def compare(self, pair_id: str, a: Judged, b: Judged) -> Label: ...

    def follows_gold(self, a: Judged, b: Judged) -> float: ...


def noise(seed: int, *key: object) -> Random:
    """The random source of one judgement."""
    return Random(int.from_bytes(hashlib.sha256(repr((seed, *key)).encode()).digest()[:16]))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


@dataclass(frozen=True, slots=True, kw_only=True)
class BT:
    """Bradley–Terry: P(a over b) = (1 - flip_p) s + flip_p (1 - s), with
    s = sigmoid((gold_a - gold_b) / tau + length_bias (length_a - length_b) + position_bias); a is shown first.

    >>> f"{BT(tau=0.5).probability(Judged(gold=1.0), Judged(gold=0.5)):.4f}"
    '0.7311'
    """

    tau: float = 0.5
    length_bias: float = 0.0
    position_bias: float = 0.0
    flip_p: float = 0.0
    seed: int = 0

    def probability(self, a: Judged, b: Judged) -> float:
        """P(a is preferred), a shown first."""
        logit = (a.gold - b.gold) / self.tau + self.length_bias * (a.length - b.length) + self.position_bias
        clean = sigmoid(logit)
        return (1.0 - self.flip_p) * clean + self.flip_p * (1.0 - clean)

    def compare(self, pair_id: str, a: Judged, b: Judged) -> Label:
        """One draw from `probability`."""
        return Label(first=noise(self.seed, pair_id).random() < self.probability(a, b))

    def follows_gold(self, a: Judged, b: Judged) -> float:
        """P(the verdict has gold's sign); 1/2 where gold is tied."""
        first = self.probability(a, b)
        return 0.5 if a.gold == b.gold else first if a.gold > b.gold else 1.0 - first


@dataclass(frozen=True, slots=True, kw_only=True)
class Likert4:
    """A BT verdict with a strength 1–4 (barely, slightly, clearly, much better) by |gold_a - gold_b|, used as margin.

    >>> Likert4(steps=(0.25, 0.75, 1.5)).strength(1.0)
    3
    """

    verdict: BT = BT()
    steps: tuple[float, float, float] = (0.25, 0.75, 1.5)

    def strength(self, difference: float) -> int:
        """1 below the first step, 4 beyond the last."""
        return 1 + sum(abs(difference) > step for step in self.steps)

    def compare(self, pair_id: str, a: Judged, b: Judged) -> Label:
        """The verdict's sign with the strength as margin."""
        label = self.verdict.compare(pair_id, a, b)
        return Label(first=label.first, margin=float(self.strength(a.gold - b.gold)))

    def follows_gold(self, a: Judged, b: Judged) -> float:
        """As the verdict's."""
        return self.verdict.follows_gold(a, b)


@dataclass(frozen=True, slots=True, kw_only=True)
class KWise:
    """A full ranking of k answers, Plackett–Luce: sort gold / tau + Gumbel noise; two answers rank as BT(tau) would."""

    k: int = 4
    tau: float = 0.5
    length_bias: float = 0.0
    seed: int = 0

    def utilities(self, group_id: str, answers: Sequence[Judged]) -> list[float]:
        """What the annotator feels of each answer: gold / tau with its bias and its noise."""
        if len(answers) != self.k:
            raise ValueError(f"KWise(k={self.k}) was given {len(answers)} answers")
        drawn = noise(self.seed, group_id)
        return [
            a.gold / self.tau + self.length_bias * a.length - math.log(max(drawn.expovariate(1.0), 1e-300))
            for a in answers
        ]

    def rank(self, group_id: str, answers: Sequence[Judged]) -> tuple[int, ...]:
        """Indices from best to worst."""
        utility = self.utilities(group_id, answers)
        return tuple(sorted(range(self.k), key=lambda index: -utility[index]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes5:
    """Noisy whole scores 0–4 of five attributes: 4 × aspect + N(0, sigma), rounded and clipped.

    >>> Attributes5(sigma=0.0).rate("x", Judged(gold=1.0, aspects=dict.fromkeys(ATTRIBUTES, 0.5)))["coherence"]
    2
    """

    sigma: float = 0.6
    seed: int = 0

    def rate(self, answer_id: str, answer: Judged) -> dict[str, int]:
        """One score per attribute."""
        drawn = noise(self.seed, answer_id)
        seen = {name: 4 * answer.aspects[name] + drawn.gauss(0, self.sigma) for name in ATTRIBUTES}
        return {name: min(4, max(0, round(score))) for name, score in seen.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Returns the text with one defect repaired: of the offered repairs, the one that gains most by gold, if any gains.

    >>> Edit().edit("ab", ["abc", "abcd"], value=len), Edit().edit("ab", ["a"], value=len)
    ('abcd', 'ab')
    """

    def edit(self, text: str, repairs: Sequence[str], *, value: Callable[[str], float]) -> str:
        """The best repair, or the text itself."""
        best = max(repairs, key=value, default=text)
        return best if value(best) > value(text) else text


def ceiling(annotator: Annotator, pairs: Iterable[tuple[Judged, Judged]]) -> float:
    """Bayes ceiling of noisy labels: the expected accuracy, on them, of always following gold's sign (ties count 1/2).

    mean over pairs of P(verdict = sign(gold_a - gold_b)); exact, no sampling.

    >>> f"{ceiling(BT(tau=1.0), [(Judged(gold=1.0), Judged(gold=0.0)), (Judged(gold=2.0), Judged(gold=2.0))]):.4f}"
    '0.6155'
    """
    follows = [annotator.follows_gold(a, b) for a, b in pairs]
    return sum(follows) / len(follows)
