"""Which model is loaded, and how; importing this imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from whet.config import Config


class LoraConfig(Config):
    """A low-rank adapter in place of training all weights; the base model, adapter off, is the reference for free."""

    rank: Annotated[int, Field(ge=1)] = 16
    """Rank of the adapter's two factors."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The adapter's output is scaled by alpha / rank."""
    targets: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter: all-linear, or names of modules."""


class ModelConfig(Config):
    """A model folder or hub name, its precision, and how batches are laid out in it."""

    path: str
    """A folder as `save_pretrained` writes it, or a hub name like owner/name (the only use of the network)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights; auto is float32 on a CPU and bfloat16 on CUDA."""
    layout: Literal["auto", "forest", "padded"] = "auto"
    """forest computes a shared prompt once; auto falls back to padded where a model cannot, and says so."""
    linear: Literal["fast", "simple"] = "fast"
    """Linear layers in float32 on a CPU: fast goes through oneDNN's kernels, simple through torch's default; the same
    sums in another order."""
    attention: Literal["fast", "simple"] = "fast"
    """fast takes fused kernels where there is one; simple computes the same in plain operations, to compare with."""
    recompute: bool = False
    """Keep only each layer's input and compute the rest again in the backward: far less memory, a third more work."""
    lora: LoraConfig | None = None
    """Train a low-rank adapter in place of all weights."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    stop: str | None = None
    """Control token that ends an answer, where it is another than the tokenizer's own (`<s>` in some story models)."""
