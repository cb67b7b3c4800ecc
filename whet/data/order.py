"""The order of the data is a function of (seed, epoch), and where a run stands in it is its step: nothing to save."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np


def permutation(n: int, *, seed: int, epoch: int) -> list[int]:
    """A random order of 0 … n - 1, the same for the same (seed, epoch) on every machine.

    >>> sorted(permutation(5, seed=1, epoch=0)) == [0, 1, 2, 3, 4]
    True
    >>> permutation(50, seed=1, epoch=0) == permutation(50, seed=1, epoch=1)
    False
    """
    key = np.frombuffer(hashlib.sha256(f"order\0{seed}\0{epoch}".encode()).digest()[:16], dtype="<u8")
    draws = np.random.Philox(key=key.astype(np.uint64)).random_raw(n)
    return np.argsort(draws, kind="stable").tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Batches of `batch` items out of `n`, epoch after epoch in a new order; a batch may run over into the next epoch.

    So every item is seen once before any is seen twice, whatever the batch size.

    >>> cursor = Cursor(n=3, batch=2, seed=0)
    >>> sorted(cursor.batch_at(0) + cursor.batch_at(1)[:1]) == [0, 1, 2]
    True
    >>> cursor.draws_at(1)[1][1]            # the second item of step 1 belongs to epoch 1
    1
    """

    n: int
    batch: int
    seed: int
    _orders: dict[int, list[int]] = field(default_factory=dict[int, list[int]], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert self.n > 0 and self.batch > 0, "a cursor needs items and a batch size"

    def draws_at(self, step: int) -> list[tuple[int, int]]:
        """(item, epoch) of each place in the batch of a step; the epoch tells two draws of one item apart."""
        places = [divmod(place, self.n) for place in range(step * self.batch, (step + 1) * self.batch)]
        return [(self._order(epoch)[at], epoch) for epoch, at in places]

    def _order(self, epoch: int) -> list[int]:
        """An epoch's order, made once for all of its steps."""
        if epoch not in self._orders:
            for past in [known for known in self._orders if known != epoch - 1]:
                del self._orders[past]
            self._orders[epoch] = permutation(self.n, seed=self.seed, epoch=epoch)
        return self._orders[epoch]

    def batch_at(self, step: int) -> list[int]:
        """The items of a step."""
        return [item for item, _ in self.draws_at(step)]

    def visits(self, steps: int) -> list[int]:
        """How often each item is seen in so many steps.

        >>> Cursor(n=3, batch=2, seed=0).visits(3), sum(Cursor(n=3, batch=2, seed=0).visits(2))
        ([2, 2, 2], 4)
        """
        epochs, more = divmod(steps * self.batch, self.n)
        counts = [epochs] * self.n
        for item in permutation(self.n, seed=self.seed, epoch=epochs)[:more]:
            counts[item] += 1
        return counts

    def epoch_at(self, step: int) -> float:
        """Epochs done before a step."""
        return step * self.batch / self.n

    def steps_in(self, epochs: float) -> int:
        """Steps that show every item `epochs` times, the last one possibly running over."""
        return int(np.ceil(epochs * self.n / self.batch))
