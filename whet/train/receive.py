"""Taking a checkpoint's state back: everything fits exactly, or nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, optim

from whet.errors import CheckpointError
from whet.train.optim import AdamW


def check_keys(what: str, given: set[Any], expected: set[Any]) -> None:
    """Refuse keys that are missing or not known, naming them.

    >>> check_keys("the state of the pool", {"a", "b"}, {"b", "c"})
    Traceback (most recent call last):
    ...
    whet.errors.CheckpointError: the state of the pool does not fit: missing ['c'], not known here ['a']
    """
    if given != expected:
        missing, extra = sorted(map(str, expected - given)), sorted(map(str, given - expected))
        raise CheckpointError(f"{what} does not fit: missing {missing or 'none'}, not known here {extra or 'none'}")


def load_tensors(own: Mapping[str, Tensor], state: Mapping[str, Tensor], *, what: str) -> None:
    """Copy saved tensors into living ones (a module's `state_dict()`); names, shapes and types must match.

    >>> weight = torch.zeros(2)
    >>> load_tensors({"weight": weight}, {"weight": torch.ones(2)}, what="the policy")
    >>> weight
    tensor([1., 1.])
    """
    check_keys(f"the state of {what}", set(state), set(own))
    wrong = [
        f"{name} is {_kind(state[name])} in place of {_kind(mine)}"
        for name, mine in own.items()
        if _kind(state[name]) != _kind(mine)
    ]
    if wrong:
        raise CheckpointError(f"the state of {what} does not fit: {'; '.join(wrong)}")
    with torch.no_grad():
        for name, mine in own.items():
            mine.copy_(state[name])


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def load_optimizer(optimizer: optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimizer's `state_dict` exactly: its groups, the names of options and parameters, each moment's shape.

    PyTorch itself checks only how many parameters there are: it would take moments in another order, and cast them to
    the parameters' type.
    """
    check_keys("the optimizer's state", set(state), {"state", "param_groups"})
    groups = optimizer.state_dict()["param_groups"]
    if len(groups) != len(state["param_groups"]):
        raise CheckpointError(
            f"the optimizer has {len(groups)} parameter groups and the checkpoint {len(state['param_groups'])}"
        )
    for index, (mine, saved) in enumerate(zip(groups, state["param_groups"], strict=True)):
        check_keys(f"parameter group {index} of the optimizer", set(saved), set(mine))
        if mine["params"] != saved["params"] or mine.get("param_names") != saved.get("param_names"):
            raise CheckpointError(
                f"parameter group {index} of the optimizer holds other parameters than the checkpoint's"
            )
    _check_moments(optimizer, state["state"])
    optimizer.load_state_dict({"state": dict(state["state"]), "param_groups": list(state["param_groups"])})


def _check_moments(optimizer: optim.Optimizer, moments: Mapping[int, Mapping[str, Any]]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if unknown := set(moments) - set(range(len(parameters))):
        raise CheckpointError(
            f"the checkpoint has moments of parameters {sorted(unknown)}, and the optimizer has {len(parameters)} "
            "parameters"
        )
    if isinstance(optimizer, AdamW):
        for index, entry in moments.items():
            _check_own(index, entry, optimizer.shapes(parameters[index]))
        return
    if len({frozenset(entry) for entry in moments.values()}) > 1:
        raise CheckpointError("the optimizer's state in the checkpoint lacks moments that other parameters have")
    for index, entry in moments.items():
        parameter = parameters[index]
        for name, value in entry.items():
            moment = isinstance(value, Tensor) and value.ndim > 0
            if moment and (value.shape != parameter.shape or value.dtype != parameter.dtype):
                raise CheckpointError(
                    f"{name} of parameter {index} is {_kind(value)} and its parameter is {_kind(parameter)}"
                )


def _check_own(index: int, entry: Mapping[str, Any], shapes: Mapping[str, tuple[torch.Size, torch.dtype]]) -> None:
    """What is kept for one parameter, in the types that the optimizer's options make of it."""
    check_keys(f"the optimizer's state of parameter {index}", set(entry), set(shapes))
    for name, (shape, dtype) in shapes.items():
        if _kind(entry[name]) != (mine := f"{dtype} {list(shape)}"):
            raise CheckpointError(f"{name} of parameter {index} is {_kind(entry[name])} in place of {mine}")
