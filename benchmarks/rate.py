"""What the machine can do, measured in the process and with the threads of the step it is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.workloads import Shape

ROWS = 2048
"""Tokens of the matrix product."""
COPIED = 64 << 20
"""Bytes of the copied block: far more than any cache holds, and given back to the system at once."""
LEAST_SECONDS = 0.05


def machine(shape: Shape) -> dict[str, float]:
    """Operations a second of `[2048, width] @ [width, inner]` and bytes a second of a copy, read and written.

    `rate` is the faster of `mm rate`, plain `torch.mm`, and `linear rate`, oneDNN's kernel for the same product, which
    torch has on some machines and leaves aside for float32.
    """
    import torch

    tokens, weight = torch.randn(ROWS, shape.width), torch.randn(shape.inner, shape.width)
    out, transposed = torch.empty(ROWS, shape.inner), weight.t()
    operations = 2.0 * ROWS * shape.width * shape.inner
    with torch.no_grad():
        found = {"mm rate": operations / _seconds(lambda: torch.mm(tokens, transposed, out=out))}
        if torch.backends.mkldnn.is_available():
            onednn = torch.ops.mkldnn._linear_pointwise
            took = _seconds(lambda: onednn(tokens, weight, None, "none", [], ""))
            found["linear rate"] = operations / took
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source)
    return {
        **found,
        "rate": max(found.values()),
        "bandwidth": 2.0 * COPIED / _seconds(lambda: target.copy_(source)),
    }


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of one call: the median over as many as take `LEAST_SECONDS`, at least five, after one to warm up."""
    work()
    took: list[float] = []
    while len(took) < 5 or sum(took) < LEAST_SECONDS:
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2]
