"""Peak memory of the log-probabilities of N tokens: all logits at once, TRL's fused head, and Whet's chunks.

    python -m benchmarks.head_memory [TOKENS] [WIDTH] [VOCABULARY] [--json FILE]

Each form runs forward and backward once in a process of its own, forked from one that has made the inputs, so what is
printed is the highest resident memory above those inputs and their gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.goals import HEAD
from whet.losses.tokens import head_logits, token_logprobs

Form = Callable[[Tensor, Tensor, Tensor], Tensor]

WHOLE_COPIES = 3
"""Logits, log-softmax and their gradient stand side by side where all logits are made at once."""


def whole(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The plain form: logits of all tokens, then log-softmax."""
    return head_logits(hidden, weight).log_softmax(dim=-1).gather(1, targets[:, None]).squeeze(1)


def fused(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """TRL's head as its trainers call it outside a GPU, log-probabilities alone."""
    from trl.trainer import utils

    kernel: Any = utils
    return kernel._ChunkedLogProbFunction.apply(
        hidden, weight, None, targets, 1.0, kernel._CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("log_probs",)
    )[0]


FORMS: dict[str, Form] = {"whet": token_logprobs, "trl": fused, "all logits": whole}


def highest() -> float:
    """The most memory this process has held, MiB."""
    kilobytes = 1 if sys.platform != "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / kilobytes


def measure(form: Form, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[float, float]:
    """(MiB above the inputs and gradients, seconds) of one forward and backward, in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)
        before, start = highest(), time.perf_counter()
        form(hidden, weight, targets).sum().backward()
        os.write(writer, f"{highest() - before} {time.perf_counter() - start}".encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the measuring process ended with status {status}")
    with os.fdopen(reader) as pipe:
        memory, seconds = pipe.read().split()
    return float(memory), float(seconds)


def measured(tokens: int, width: int, vocabulary: int) -> dict[str, Any]:
    """Peak MiB and seconds of every form, or why there is no number."""
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,))
    logits = tokens * vocabulary * 4 / 2**20
    out: dict[str, Any] = {"tokens": tokens, "width": width, "vocabulary": vocabulary, "logits": logits, "forms": {}}
    for name, form in FORMS.items():
        try:
            if form is whole and _available() < WHOLE_COPIES * logits:
                raise MemoryError(f"{WHOLE_COPIES * logits:.0f} MiB needed, {_available():.0f} available")
            if form is fused:
                import trl.trainer.utils  # noqa: F401  before the fork: importing is not the head's memory
            memory, seconds = measure(form, hidden, weight, targets)
            out["forms"][name] = {"memory": memory, "seconds": seconds}
        except (ImportError, AttributeError, MemoryError, RuntimeError) as error:
            out["forms"][name] = {"failed": f"{type(error).__name__}: {error}"}
    return out


def _available() -> float:
    """MiB that a process can still take (all of the machine's, where the system does not say)."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable")), whole)


def lines_of(result: dict[str, Any]) -> list[str]:
    """The result in words, with ratios to Whet's and the goals for them."""
    head = "head: {tokens} tokens, width {width}, vocabulary {vocabulary}, {logits:.0f} MiB of logits".format(**result)
    ours = result["forms"]["whet"].get("memory")
    return [head, *(_line(name, found, ours) for name, found in result["forms"].items())]


def _line(name: str, found: dict[str, Any], ours: float | None) -> str:
    if "failed" in found:
        return f"  {name:10s} failed: {found['failed']}"
    line = f"  {name:10s} peak {found['memory']:7.0f} MiB"
    if ours is None or name not in HEAD:
        return line
    met = "met" if ours / found["memory"] <= HEAD[name] else "missed"
    return f"{line}   whet's is {ours / found['memory']:.2f}x of it, goal <= {HEAD[name]:g}x: {met}"


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head_memory")
    for name, default in (("tokens", 8192), ("width", 256), ("vocabulary", 131_072)):
        parser.add_argument(name, nargs="?", type=int, default=default)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    result = measured(asked.tokens, asked.width, asked.vocabulary)
    print("\n".join(lines_of(result)))
    if asked.json is not None:
        asked.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
