"""What is timed: the rows of the table, free of any library so that both sides read the same words.

| name       | one step                                                                               |
|------------|----------------------------------------------------------------------------------------|
| sample     | responses to prompts, nothing else                                                     |
| grpo       | the same, a reward function and one optimizer step (grpo-kl: with KL to a reference)   |
| dpo-live   | pairs of one prompt, the reference model computed in the step                          |
| dpo-cached | the same pairs, the reference's log-probabilities computed before                      |
| reward     | the same pairs, Bradley-Terry on a scalar head                                         |
| sft        | whole texts, every token learned, against peers that do not pack                       |
| sft-packed | the same, against peers that pack                                                      |

Each stands there ragged and, as NAME-equal, with equal lengths. Ragged responses are geometric: a stop token of
probability 1/64 in a vocabulary of 64 tokens where they are sampled, and cut at 256. Ragged texts are uniform between
two lengths. The small size keeps the proportions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["sample", "grpo", "dpo", "reward", "sft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Llama of random float32 weights; `parameters` counts it with an LM head of its own."""

    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        block = 4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width
        return self.layers * block + 2 * self.vocabulary * self.width + self.width


SHAPES: Mapping[str, Shape] = {
    "tiny": Shape(layers=2, width=64, heads=2, inner=128, vocabulary=512),
    "7M": Shape(layers=6, width=256, heads=8, inner=1024, vocabulary=4096),
    "60M": Shape(layers=10, width=640, heads=20, inner=2304, vocabulary=4096),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row: `rows` prompts, pairs or texts a step; `group` responses a prompt; lengths in tokens.

    Responses are `mean` tokens long where `equal`, else geometric with that mean, at most `cap`. Texts (sft) lie
    between `mean` and `cap`, or half-way where `equal`. `kl` is the coefficient of KL to a reference; `cached` says
    that the reference's log-probabilities are known before the step, `packed` that the peers pack. `micro` is how many
    sequences a peer computes at once where it takes a step in parts (None: an even part of it); `budget` and `slots`
    are Whet's tokens at once (None: its default) and responses side by side.
    """

    name: str
    kind: Kind
    shape: Shape
    rows: int
    mean: int
    cap: int
    prompt: int = 0
    group: int = 1
    equal: bool = False
    kl: float = 0.0
    cached: bool = False
    packed: bool = False
    micro: int | None = None
    budget: int | None = None
    slots: int = 64
    seed: int = 0

    @property
    def sequences(self) -> int:
        """Sequences of one step, as TRL counts its batch: responses, pairs, texts."""
        return self.rows * self.group

    @property
    def most(self) -> int:
        """The longest response that may be sampled."""
        return self.mean if self.equal else self.cap

    @property
    def stop(self) -> float:
        """The probability of the stop token at every place."""
        return 0.0 if self.equal else 1.0 / self.mean

    def lengths(self, count: int) -> list[int]:
        """Lengths of the data's responses or texts, the same for the same seed.

        >>> from dataclasses import replace
        >>> set(replace(FULL["reward"], equal=True).lengths(3)), max(FULL["reward"].lengths(1000))
        ({64}, 256)
        """
        rng = random.Random(f"{self.seed} lengths")
        if self.kind == "sft":
            middle = (self.mean + self.cap) // 2
            return [middle if self.equal else rng.randint(self.mean, self.cap) for _ in range(count)]
        return [self.mean if self.equal else min(self.cap, _geometric(rng, self.stop)) for _ in range(count)]

    def answers(self) -> list[int]:
        """Lengths of a pair's answers as the data has them, chosen and rejected in turns.

        At least two words and the stop token, so that no answer is empty and no two are the same.
        """
        return [max(3, length) for length in self.lengths(2 * self.rows)]

    @property
    def words(self) -> str:
        """The row in words, for the table."""
        long = f"{self.mean} each" if self.equal else f"ragged, mean {self.mean}, at most {self.cap}"
        if self.kind == "sft":
            long = f"{(self.mean + self.cap) // 2} each" if self.equal else f"{self.mean} to {self.cap}"
            return f"{self.rows} texts of {long} tokens" + (", packed" if self.packed else "")
        what = f"{self.rows} pairs" if self.group == 1 else f"{self.rows} prompts × {self.group} responses"
        more = ", KL to a reference" if self.kl else ""
        if self.kind == "dpo":
            more = ", reference cached" if self.cached else ", reference computed"
        return f"{what}, prompt {self.prompt}, responses {long}{more}"


def _geometric(rng: random.Random, stop: float) -> int:
    length = 1
    while rng.random() >= stop:
        length += 1
    return length


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much one step is: `texts` are (count, shortest, longest) of sft."""

    prompts: int
    group: int
    pairs: int
    prompt: int
    mean: int
    cap: int
    texts: tuple[int, int, int]


FULL_SIZE = Size(prompts=16, group=8, pairs=32, prompt=256, mean=64, cap=256, texts=(64, 32, 512))
SMALL_SIZE = Size(prompts=8, group=4, pairs=8, prompt=64, mean=16, cap=64, texts=(16, 16, 128))


def _rows(shape: Shape, size: Size) -> dict[str, Workload]:
    long: dict[str, Any] = {"prompt": size.prompt, "mean": size.mean, "cap": size.cap}
    sampled: dict[str, Any] = {"rows": size.prompts, "group": size.group, **long}
    paired: dict[str, Any] = {"rows": size.pairs, "shape": shape, **long}
    count, shortest, longest = size.texts
    texts: dict[str, Any] = {"shape": shape, "rows": count, "mean": shortest, "cap": longest}
    small = replace(shape, vocabulary=64)
    rows = [
        Workload(name="sample", kind="sample", shape=small, **sampled),
        Workload(name="grpo", kind="grpo", shape=small, **sampled),
        Workload(name="grpo-kl", kind="grpo", shape=small, kl=0.04, **sampled),
        Workload(name="dpo-live", kind="dpo", **paired),
        Workload(name="dpo-cached", kind="dpo", cached=True, **paired),
        Workload(name="reward", kind="reward", **paired),
        Workload(name="sft", kind="sft", **texts),
        Workload(name="sft-packed", kind="sft", packed=True, **texts),
    ]
    equal = [replace(row, name=f"{row.name}-equal", equal=True, shape=shape) for row in rows]
    return {row.name: row for row in (*rows, *equal)}


def workloads(*, model: str = "7M", small: bool = False) -> dict[str, Workload]:
    """Every row at a model size; `small` takes about a tenth of the work, for a noisy machine."""
    return _rows(SHAPES[model], SMALL_SIZE if small else FULL_SIZE)


FULL = workloads()
