"""A device that is not the CPU but computes there: it refuses what CUDA refuses, and notes where CUDA would wait.

Tensors of the device "pretend" hold their numbers in a tensor of the CPU. An operation that mixes the two devices
fails, as it would on CUDA (numbers without dimensions may mix); `waits` lists what a host cannot do without waiting for
the device, `copies` what comes to it. Registering a device is for ever, so this belongs into a process of its own.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pretend"
MAY_MIX = {"aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put_", "aten::index_put"}
NOTED: Pretend | None = None
WAIT = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::bincount",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::repeat_interleave",
}


class Backend(_DummyBackendModule):
    """What torch asks a device's module for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class Remote(Tensor):
    """A tensor over there; `here` has its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=f"{NAME}:0",
        )

    def __init__(self, here: Tensor) -> None:
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (NOTED or Pretend()).__torch_dispatch__(func, types, args, kwargs)

    def tolist(self) -> Any:
        assert NOTED is not None
        NOTED.waits.append(f"tolist {_place()}")
        return self.here.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Remote({self.here})"


class Pretend(TorchDispatchMode):
    """While it is entered there is the device, and `waits` and `copies` grow."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        name, remote = func._schema.name, any(isinstance(x, Remote) for x in tensors)
        asked = kwargs.get("device")
        target = None if asked is None else torch.device(asked).type
        if remote:
            self._watch(name, args, tensors, target)
        elif name in ("aten::copy_", "aten::_to_copy") and target == NAME:
            self.copies.append(_place())
        call = tree_map(lambda x: x.here if isinstance(x, Remote) else x, kwargs)
        if target == NAME:
            call["device"] = torch.device("cpu")
        out = func(*tree_map(lambda x: x.here if isinstance(x, Remote) else x, args), **call)
        if target != NAME and (not remote or target is not None):
            return out
        out = tree_map(lambda x: Remote(x) if isinstance(x, Tensor) else x, out)
        return return_and_correct_aliasing(func, args, kwargs, out)

    def _watch(self, name: str, args: Any, tensors: list[Tensor], target: str | None) -> None:
        local = [x for x in tensors if not isinstance(x, Remote) and x.dim() > 0]
        if local and name not in MAY_MIX:
            raise RuntimeError(f"{name}: tensors of two devices, {[tuple(x.shape) for x in tensors]}")
        masked = name.startswith("aten::index") and any(x.dtype == torch.bool for x in _tensors(args[1:]))
        to_host = target == "cpu" if name == "aten::_to_copy" else name == "aten::copy_" and type(args[0]) is Tensor
        if name in WAIT or masked or to_host:
            self.waits.append(f"{name.removeprefix('aten::')} {_place()}")
        elif local:
            self.copies.append(_place())


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_flatten(tree)[0] if isinstance(x, Tensor)]


class Making(TorchFunctionMode):
    """`torch.tensor` and lists as indices ask no dispatcher: they are tensors of the CPU that go over."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Remote):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.as_tensor(x).to(NAME) if isinstance(x, list | tuple | Tensor) else x for x in index)
            return func(args[0], index, *args[2:])
        device = kwargs.get("device")
        if func not in (torch.tensor, torch.as_tensor) or device is None or torch.device(device).type != NAME:
            return func(*args, **kwargs)
        return func(*args, **{**kwargs, "device": "cpu"}).to(device)


def _place() -> str:
    """Where in the package the operation was asked for."""
    frames = [f for f in traceback.extract_stack() if "/whet/" in f.filename and "/tests/" not in f.filename]
    return f"{frames[-1].filename.split('/whet/')[-1]}:{frames[-1].lineno}" if frames else "elsewhere"


@contextmanager
def pretend() -> Iterator[Pretend]:
    """The device, for as long as the block lasts; registered for the rest of the process."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    global NOTED
    with Making(), Pretend() as NOTED:
        yield NOTED
    NOTED = None
