"""Activation checkpointing: a layer keeps its input and computes the rest again in the backward.

What a step keeps falls from about a dozen vectors per token and layer to one, for one more forward of the layers (a
third more operations). Nothing is drawn in a forward, so the second one gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from whet.errors import ModelError


def recompute_layers(backbone: nn.Module) -> int:
    """Let every decoder layer keep its input alone, in place; returns how many there are.

    `ModelError` for a family whose layers are not marked as such. Without gradients nothing changes.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in backbone.modules() if isinstance(module, GradientCheckpointingLayer)]
    inner = {id(below) for layer in layers for below in layer.modules() if below is not layer}
    outer = [layer for layer in layers if id(layer) not in inner]
    if not outer:
        raise ModelError(
            f"model.recompute=true: {type(backbone).__name__} does not say which of its parts are layers; leave it out "
            "and lower token_budget instead"
        )
    for layer in outer:
        layer.forward = partial(_again, layer.forward)  # a bound method, which a copy of the model binds to its own
    return len(outer)


def _again(forward: Callable[..., Any], *args: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **options)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **options)
