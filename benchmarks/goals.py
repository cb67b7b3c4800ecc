"""What each row is to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Measure = Literal["faster", "memory", "limit"]
GENERATE = "generate"

FASTER: Mapping[str, float] = {
    "grpo": 6.0,
    "grpo-equal": 2.5,
    "grpo-kl": 6.0,
    "grpo-kl-equal": 2.5,
    "dpo-live": 2.2,
    "dpo-live-equal": 1.4,
    "dpo-cached": 2.2,
    "dpo-cached-equal": 1.4,
    "reward": 2.0,
    "reward-equal": 1.4,
    "sft": 1.8,
}
"""Times faster than the fastest peer, by row."""
PACKED: Mapping[str, float] = {"7M": 1.2, "60M": 1.05}
OVER_GENERATE, OVER_OTHERS = 3.0, 1.5
MEMORY = 0.6
"""Of the peer's peak memory, each above its imports."""
TRAINING: Mapping[str, float] = {"7M": 0.6, "60M": 0.7}
SAMPLING: Mapping[str, float] = {"7M": 0.5, "60M": 0.7}
"""Share of the machine's limit, by model; of sampling at `SLOTS` slots."""
SLOTS = 64
HEAD: Mapping[str, float] = {"trl": 1.05, "all logits": 0.15}
"""Peak memory of the head over that of TRL's fused one and of all logits at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound on one number of a row: at least (faster, limit) or at most (memory).

    `against` is a peer's name, "best" for the fastest, or "others" for the fastest that is not `transformers` generate.
    """

    measure: Measure
    bound: float
    against: str = "best"

    def met(self, value: float) -> bool:
        """Whether a number reaches the bound.

        >>> Goal(measure="memory", bound=0.6).met(0.5), Goal(measure="faster", bound=2.0).met(1.9)
        (True, False)
        """
        return value <= self.bound if self.measure == "memory" else value >= self.bound

    @property
    def words(self) -> str:
        """The goal in words.

        >>> Goal(measure="faster", bound=3.0, against="generate").words
        'faster than generate >= 3x'
        """
        if self.measure == "limit":
            return f"limit >= {self.bound:.0%}"
        what, sign = ("faster", ">=") if self.measure == "faster" else ("memory", "<=")
        than = "" if self.against == "best" else f" {'than' if what == 'faster' else 'of'} {self.against}"
        return f"{what}{than} {sign} {self.bound:g}x"


def goals(name: str, model: str, *, slots: int = SLOTS, share: float | None = None) -> list[Goal]:
    """The goals of a row at a model size; `share` is the part of the row's limit that is sampling (None: no limit).

    A step that samples and learns has for its limit the share it would reach were each part just at its own goal.

    >>> [goal.words for goal in goals("sft", "7M", share=0.0)]
    ['faster >= 1.8x', 'memory <= 0.6x', 'limit >= 60%']
    """
    found = [Goal(measure="memory", bound=MEMORY)]
    if name == "sample":
        found = [
            Goal(measure="faster", bound=OVER_GENERATE, against=GENERATE),
            Goal(measure="faster", bound=OVER_OTHERS, against="others"),
            Goal(measure="memory", bound=MEMORY, against=GENERATE),
        ]
    elif name == "sample-equal":
        found = [Goal(measure="memory", bound=MEMORY, against=GENERATE)]
    elif name == "sft-packed" and model in PACKED:
        found.insert(0, Goal(measure="faster", bound=PACKED[model]))
    elif name in FASTER:
        found.insert(0, Goal(measure="faster", bound=FASTER[name]))
    if share is not None and model in TRAINING and (share == 0.0 or slots == SLOTS):
        found.append(Goal(measure="limit", bound=1.0 / (share / SAMPLING[model] + (1.0 - share) / TRAINING[model])))
    return found


def judged(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each goal of a row with its value and whether it is met; None where the run has no value for it."""
    share = row["limit"]["sampling"] if row["limit"] else None
    out = []
    for goal in goals(row["name"], row["model"], slots=row["workload"]["slots"], share=share):
        value = _value(goal, row)
        out.append({"goal": goal.words, "value": value, "met": None if value is None else goal.met(value)})
    return out


def _value(goal: Goal, row: Mapping[str, Any]) -> float | None:
    if goal.measure == "limit":
        return row["limit"]["share"] if row["limit"] else None
    name = goal.against
    if name in ("best", "others"):
        able = [peer for peer in row["against"] if name == "best" or peer != GENERATE]
        name = min(able, key=lambda peer: row["against"][peer]["faster"], default="")
    return row["against"].get(name, {}).get(goal.measure)
