"""What is tried on the pretended device, each in a process of its own; the answers go to a file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import elsewhere
import engine_models
import test_step
import tiny
import varlen_stand_in
from forge import in_child
from torch import Tensor
from torch.utils._pytree import tree_map

from whet.batch import pack
from whet.models import varlen
from whet.models.prove import prove
from whet.rollout.config import SamplingConfig
from whet.rollout.torch_engine import TorchEngine
from whet.train.config import OptimConfig
from whet.train.learner import Learner
from whet.train.step import Reference, update
from whet.types import NoiseKey, Request


def tried(what: str, argument: str, out: str) -> int:
    """Run one of the functions below in a child; its exit code."""

    def work() -> None:
        Path(out).write_text(json.dumps(globals()[what](argument)))

    return in_child(work, Path(out + ".said"))


def there(function: Any) -> Any:
    """A function of the CPU's tensors as one of the device's: a kernel."""

    def kernel(*arguments: Any, **options: Any) -> Any:
        assert all(isinstance(x, elsewhere.Remote) for x in arguments if isinstance(x, Tensor)), "all is over there"
        out = function(*tree_map(lambda x: x.here if isinstance(x, elsewhere.Remote) else x, arguments), **options)
        return tuple(elsewhere.Remote(x) for x in out)

    return kernel


def step(method: str) -> dict[str, Any]:
    """One optimizer step in several pieces on either device: metrics, gradients' sums, and where the host waited."""
    varlen.serves = lambda query, key: query.device.type == elsewhere.NAME
    varlen.CUDA = varlen.varlen_kernel(there(varlen_stand_in.forward), there(varlen_stand_in.backward))
    out: dict[str, Any] = {}
    with elsewhere.pretend() as device:
        for name in ("cpu", elsewhere.NAME):
            terms, trees, heads = test_step.METHODS[method]()
            policy, reference = tiny.decoder(0, heads=heads).to(name), tiny.decoder(1).freeze().to(name)
            learner = Learner.of(policy, terms, OptimConfig(lr=0.01), total=3)
            batch = test_step.annotated(pack(trees), Reference(model=reference))
            device.waits.clear()
            device.copies.clear()
            metrics = update({"policy": learner}, batch, budget=30, other=reference)
            out["waits"], out["copies"] = Counter(device.waits), Counter(device.copies)
            out[name] = {key: metric.value() for key, metric in metrics.items()}
            out[name] |= {key: float(p.grad.norm()) for key, p in policy.named_parameters() if p.grad is not None}
        out["pieces"] = len(batch.split(30))
    return out


def sample(family: str) -> dict[str, Any]:
    """A few responses on either device: their tokens, and where the host waited."""
    out: dict[str, Any] = {}
    with elsewhere.pretend() as device:
        for name in ("cpu", elsewhere.NAME):
            decoder = engine_models.tiny(family).to(name)
            prove(decoder)
            cuts = SamplingConfig(max_new_tokens=6, slots=4, top_p=0.95, top_k=20)
            engine = TorchEngine(decoder, cuts, (2,))
            device.waits.clear()
            key = {"seed": 0, "stream": "t", "step": 0}
            asked = [Request(prompt=(1, 3 + i, 7), key=NoiseKey(**key, task=str(i)), n=3) for i in range(3)]
            out[name] = [[completion.tokens for completion in drawn] for drawn in engine.sample(asked)]
            out["waits"], out["steps"] = Counter(device.waits), engine.last.steps
    return out
