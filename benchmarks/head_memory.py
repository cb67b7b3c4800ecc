"""Peak memory of the log-probabilities of N tokens: all logits at once against chunks.

    python benchmarks/head_memory.py [TOKENS] [WIDTH] [VOCABULARY]

Each form runs forward and backward once in a process of its own, forked from one that has made the inputs, so what is
printed is the highest resident memory above those inputs and their gradients.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from whet.losses.tokens import chunk_rows, head_logits, token_logprobs

Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def whole(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The plain form: logits of all tokens, then log-softmax."""
    return head_logits(hidden, weight).log_softmax(dim=-1).gather(1, targets[:, None]).squeeze(1)


FORMS: dict[str, Form] = {"all logits at once": whole, "in chunks": token_logprobs}


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


def main(tokens: int = 4096, width: int = 256, vocabulary: int = 32_768) -> None:
    """Print one line per form."""
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,))
    size = tokens * vocabulary * 4 / 2**20
    print(f"{tokens} tokens, width {width}, vocabulary {vocabulary}: {size:.0f} MiB of float32 logits")
    rows = chunk_rows(weight, hidden)
    print(f"a chunk is {rows} rows, {rows * vocabulary * 4 / 2**20:.0f} MiB")
    for name, form in FORMS.items():
        memory, seconds = measure(form, hidden, weight, targets)
        print(f"{name:20s} peak {memory:7.0f} MiB   {seconds:6.2f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*(int(word) for word in sys.argv[1:]))
