"""The least time a machine can take for a step: every token computed once, every byte moved that must be.

    limit = operations / matrix-multiply rate + bytes / copy bandwidth,        share = limit / time taken

Operations are those of matrix products, two for a multiplication and an addition. With width w, a block of
b = 4 w² + 3 w · inner weights, L layers and a head of V outputs

    forward     2 b L · tokens + 2 w V · counted tokens + 4 w L · visible pairs
    training    3 forward (the backward is two more), 1 forward for a reference computed in the step
    sampling    a forward over every prompt once and every sampled token but the last of each response

A prompt's tokens are there once per group. Left out: norms, rotations, softmax, the optimizer, and the second
computation of logits or attention that a backward may prefer to keeping them. What must move is counted for sampling
alone: all weights of blocks and head once a decode step, and of keys and values each response's own once a step and a
prompt's once a step and group while any of its responses is being drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

from benchmarks.workloads import Shape, Workload

FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A prompt of so many tokens and the responses that share it; a text is a group without a prompt."""

    prompt: int
    responses: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens, each once."""
        return self.prompt + sum(self.responses)

    @property
    def pairs(self) -> int:
        """(query, key) pairs that see each other: every token, itself and all before it, the prompt's once.

        >>> Group(prompt=2, responses=(1, 1)).pairs                                      # 1 + 2, then 3 twice
        9
        """
        return sum(map(_triangle, (self.prompt, *self.responses))) + self.prompt * sum(self.responses)


def _triangle(count: int) -> int:
    return count * (count + 1) // 2


def forest(workload: Workload, drawn: Sequence[Sequence[int]] = ()) -> list[Group]:
    """The groups of one step; `drawn` are the lengths of each prompt's responses where they are sampled."""
    if workload.kind == "sft":
        return [Group(prompt=0, responses=(length,)) for length in workload.lengths(workload.rows)]
    if workload.kind in ("sample", "grpo"):
        return [Group(prompt=workload.prompt, responses=tuple(lengths)) for lengths in drawn]
    answers = workload.answers()
    sides = zip(answers[::2], answers[1::2], strict=True)
    return [Group(prompt=workload.prompt, responses=pair) for pair in sides]


def block_weights(shape: Shape) -> int:
    """Weights of all blocks' matrices.

    >>> block_weights(Shape(layers=2, width=4, heads=1, inner=8, vocabulary=10))         # 2 (4·16 + 3·32)
    320
    """
    return shape.layers * (4 * shape.width**2 + 3 * shape.width * shape.inner)


def forward(shape: Shape, groups: Iterable[Group], *, counted: int, outputs: int) -> int:
    """Operations of one pass over a forest, with a head of `outputs` on `counted` tokens."""
    groups = list(groups)
    blocks = 2 * block_weights(shape) * sum(group.tokens for group in groups)
    attention = 4 * shape.width * shape.layers * sum(group.pairs for group in groups)
    return blocks + attention + 2 * shape.width * outputs * counted


def training(workload: Workload, groups: Sequence[Group]) -> int:
    """Operations of a step's passes: forward, twice that backward, and the reference's forward where it is live."""
    shape, outputs = workload.shape, workload.shape.vocabulary
    counted = sum(sum(group.responses) for group in groups)
    if workload.kind == "sft":
        counted -= len(groups)  # nothing predicts a text's first token
    if workload.kind == "reward":
        counted, outputs = sum(len(group.responses) for group in groups), 1
    live = (workload.kind == "dpo" and not workload.cached) or workload.kl > 0
    return (3 + live) * forward(shape, groups, counted=counted, outputs=outputs)


def sampling(shape: Shape, groups: Sequence[Group]) -> int:
    """Operations of drawing the groups' responses: the last token of each is drawn and never fed.

    >>> shape = Shape(layers=1, width=1, heads=1, inner=0, vocabulary=1)
    >>> sampling(shape, [Group(prompt=2, responses=(2,))])    # 3 tokens · 8, pairs 6 · 4, first logits and one more · 2
    52
    """
    fed = [Group(prompt=group.prompt, responses=_fed(group)) for group in groups]
    counted = len(groups) + sum(sum(group.responses) for group in fed)
    return forward(shape, fed, counted=counted, outputs=shape.vocabulary)


def _fed(group: Group) -> tuple[int, ...]:
    return tuple(length - 1 for length in group.responses)


def traffic(shape: Shape, groups: Sequence[Group], *, slots: int) -> int:
    """Bytes that sampling must read: weights, own and prompts' keys and values, step by step."""
    spans = schedule([fed for group in groups for fed in _fed(group)], slots)
    steps = max((end for _, end in spans), default=0)
    own = sum(_triangle(fed) for group in groups for fed in _fed(group))
    shared, at = 0, 0
    for group in groups:
        shared += group.prompt * _alive(spans[at : at + len(group.responses)])
        at += len(group.responses)
    weights = block_weights(shape) + shape.width * shape.vocabulary
    return FLOAT * (steps * weights + 2 * shape.width * shape.layers * (own + shared))


def schedule(fed: Sequence[int], slots: int) -> list[tuple[int, int]]:
    """(first step, step after the last) of each response where the next takes the first free slot.

    >>> schedule([3, 1, 2], slots=2)
    [(0, 3), (0, 1), (1, 3)]
    """
    free = [0] * max(1, slots)
    heapify(free)
    spans = []
    for count in fed:
        start = free[0]
        heapreplace(free, start + count)
        spans.append((start, start + count))
    return spans


def _alive(spans: Sequence[tuple[int, int]]) -> int:
    """Steps that at least one span covers.

    >>> _alive([(0, 3), (2, 4), (6, 7)])
    5
    """
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Least seconds of a step's sampling and of its training."""

    sampling: float
    training: float

    @property
    def seconds(self) -> float:
        return self.sampling + self.training


def least(workload: Workload, drawn: Sequence[Sequence[int]], *, rate: float, bandwidth: float) -> Parts:
    """The limit of one step, at operations and bytes a second that the same run measured."""
    groups, drew = forest(workload, drawn), 0.0
    if workload.kind in ("sample", "grpo"):
        moved = traffic(workload.shape, groups, slots=workload.slots)
        drew = sampling(workload.shape, groups) / rate + moved / bandwidth
    learned = 0.0 if workload.kind == "sample" else training(workload, groups) / rate
    return Parts(sampling=drew, training=learned)
