"""The order of things as a function of seed and place: nothing to save, nothing to restore."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


def permutation(n: int, *key: int | str) -> list[int]:
    """A shuffle of range(n) that depends on its key alone.

    >>> permutation(4, 0, "epoch", 0) == permutation(4, 0, "epoch", 0), sorted(permutation(4, 0, "epoch", 1))
    (True, [0, 1, 2, 3])
    """
    digest = hashlib.sha256("|".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "little"))).permutation(n).tolist()


@dataclass(frozen=True, slots=True)
class Cursor:
    """Which of `n` items step 1, 2, … looks at: shuffled epochs, laid end to end and cut into batches.

    >>> cursor = Cursor(n=5, batch=2, seed=0)
    >>> sorted(i for step in range(1, 6) for i, _ in cursor.at(step))
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    >>> [occurrence for _, occurrence in cursor.at(3)]
    [0, 1]
    """

    n: int
    batch: int
    seed: int

    def at(self, step: int) -> list[tuple[int, int]]:
        """(item, how often it had come before) of one step; steps count from 1."""
        out: list[tuple[int, int]] = []
        for place in range((step - 1) * self.batch, step * self.batch):
            epoch, offset = divmod(place, self.n)
            out.append((permutation(self.n, self.seed, "epoch", epoch)[offset], epoch))
        return out

    def steps(self, epochs: float) -> int:
        """Steps that cover this many epochs, the last one perhaps running into the next epoch."""
        return max(1, -(-round(self.n * epochs) // self.batch))
