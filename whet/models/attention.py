"""Attention over a forest: each token sees its own segment causally and the whole of every ancestor segment.

A model's attention is replaced by name: `attend` is registered with `transformers` as "whet" and hands query, key and
value to the plan that travels as a keyword of the model's call, so there is no global state. A `ForestPlan` cuts the
work of one batch into parts that need no copy of a shared prompt:

    own part      every segment with itself, causal; padding to the right of a segment is never seen
    prefix part   every segment that has descendants: their tokens against all of its tokens, without a mask

A token's parts are merged by their log-sum-exp, out = Σ_p exp(lse_p − lse) out_p, which is exactly the softmax over the
union of their keys. Who computes a part (`flash` on a CPU, `varlen` on CUDA, else `softmax`) changes nothing but the
cost; `parts` has the cutting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from whet.batch import TokenBatch
from whet.models import varlen
from whet.models.flash import CPU, FLASH_DTYPES, Kernel, flash_forest
from whet.models.parts import Cut, Part, Run
from whet.models.softmax import softmax_forest

ATTENTION = "whet"
AttentionPath = Literal["fast", "simple"]
"""fast: fused kernels where there is one; simple: plain operations for everything, to compare with."""


class Plan(Protocol):
    """Who computes the attention of a model call: a forest (training, prefill) or slots that grow (sampling)."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """query `[1, heads, T, d]`, key and value `[1, kv_heads, T, d]` → `[1, T, heads, d]`, contiguous."""
        ...


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: Plan | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What `transformers` calls in place of its own attention: everything is left to the plan."""
    if plan is None:
        raise TypeError("its layers do not hand keywords of the call on to their attention")
    assert dropout == 0.0, "attention dropout is off: the forest must give the same numbers twice"
    layer: Any = module.layer_idx
    mixed = plan.attend(
        int(layer), query, key, value, scaling=scaling, window=sliding_window, softcap=softcap, sinks=s_aux
    )
    return mixed, None


def register() -> str:
    """Make "whet" a known attention of `transformers`; no mask is registered, so models build none."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
    return ATTENTION


@dataclass(slots=True)
class ForestPlan:
    """The parts of one batch, made once and used by every layer.

    `called` collects the layers that asked, `windows` the sliding window each of them named. With `keep` the keys and
    values of every layer stay on the plan as `[T, kv_heads, d]`, which is what prefilling a sampler needs. `kernel`
    takes the place of CUDA's for all types and devices.
    """

    cut: Cut
    device: torch.device
    attention: AttentionPath = "fast"
    keep: bool = False
    kernel: Kernel[Run] | None = None
    called: set[int] = field(default_factory=set)
    windows: dict[int, int | None] = field(default_factory=dict)
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _parts: tuple[Part, ...] | None = None
    _runs: tuple[Run, ...] | None = None

    @classmethod
    def of(
        cls,
        batch: TokenBatch,
        *,
        device: torch.device | None = None,
        attention: AttentionPath = "fast",
        keep: bool = False,
        kernel: Kernel[Run] | None = None,
    ) -> ForestPlan:
        """The plan of a batch for a device, the batch's own if none is named; a batch on the CPU needs no waiting."""
        device = batch.tokens.device if device is None else device
        return cls(cut=Cut.of(batch), device=device, attention=attention, keep=keep, kernel=kernel)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The rectangles of the CPU's kernel and of the simple path."""
        if self._parts is None:
            self._parts = self.cut.parts(self.device, whole=self.attention == "fast")
        return self._parts

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of CUDA's kernel."""
        if self._runs is None:
            self._runs = self.cut.runs(self.device)
        return self._runs

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        self.called.add(layer)
        self.windows[layer] = window
        q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
        if self.keep:
            self.kept[layer] = (k, v)
        scale = q.shape[-1] ** -0.5 if scaling is None else float(scaling)
        fusible = self.attention == "fast" and softcap is None and q.shape[-1] == v.shape[-1]
        if fusible and (self.kernel is not None or varlen.serves(q, k)) and not self._cuts(window):
            kernel = self.kernel or varlen.CUDA
            return flash_forest(q, k, v, sinks, parts=self.runs, kernel=kernel, scale=scale, window=window)[None]
        if fusible and q.device.type == "cpu" and q.dtype in FLASH_DTYPES:
            return flash_forest(q, k, v, sinks, parts=self.parts, kernel=CPU, scale=scale, window=window)[None]
        return softmax_forest(q, k, v, sinks, parts=self.parts, scale=scale, window=window, softcap=softcap)[None]

    def _cuts(self, window: int | None) -> bool:
        """Whether a window ends inside a prefix, so that each query sees another part of it."""
        return window is not None and any(window <= run.reach for run in self.runs[1:])
