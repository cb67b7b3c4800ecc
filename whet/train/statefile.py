"""One component's state as two files: tensors as safetensors, everything else as JSON; exact both ways, never pickle.

The JSON tree keeps what JSON alone would lose, under keys that begin with a dollar sign: `{"$tensor": name}`,
`{"$tuple": [...]}`, `{"$items": [[key, value], ...]}` for mappings whose keys are not plain strings, and `{"$float":
"inf"}`.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from whet.errors import CheckpointError
from whet.files import Buffer

_CHUNK: Final = 1 << 22
_DTYPES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def pack(state: Mapping[str, Any], *, component: str) -> tuple[str, dict[str, Tensor]]:
    """A component's state as JSON text and the tensors it names; tensors that are one (tied weights) are named once.

    >>> state = {"weight": torch.zeros(2), "betas": (0.9, 0.95), "best": float("-inf")}
    >>> text, tensors = pack(state, component="policy")
    >>> text
    '{"weight": {"$tensor": "weight"}, "betas": {"$tuple": [0.9, 0.95]}, "best": {"$float": "-inf"}}'
    >>> unpack(text, tensors)["best"]
    -inf
    """
    tensors: dict[str, Tensor] = {}
    tree = _Packer(component, tensors).pack(state, "")
    return json.dumps(tree, allow_nan=False), tensors


class _Packer:
    """Walks one state; `names` knows the tensors already met by where their numbers lie."""

    def __init__(self, component: str, tensors: dict[str, Tensor]) -> None:
        self.component = component
        self.tensors = tensors
        self.names: dict[tuple[object, ...], str] = {}

    def pack(self, value: Any, place: str) -> Any:
        if isinstance(value, Tensor):
            return {"$tensor": self.name(value, place)}
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, tuple):
            return {"$tuple": [self.pack(item, f"{place}.{index}") for index, item in enumerate(value)]}
        if isinstance(value, list):
            return [self.pack(item, f"{place}.{index}") for index, item in enumerate(value)]
        if isinstance(value, Mapping):
            return self.mapping(value, place)
        raise CheckpointError(
            f"the state of {self.component!r} holds a {type(value).__name__} at {place or 'its top'}; a state may hold "
            "tensors, numbers, strings, None, lists, tuples and mappings (an array as torch.from_numpy(array))"
        )

    def mapping(self, value: Mapping[Any, Any], place: str) -> Any:
        def inner(key: Any) -> str:
            return f"{place}.{key}" if place else str(key)

        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: self.pack(item, inner(key)) for key, item in value.items()}
        return {"$items": [[self.pack(key, place), self.pack(item, inner(key))] for key, item in value.items()]}

    def name(self, tensor: Tensor, place: str) -> str:
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized or tensor.dtype not in _DTYPES:
            raise CheckpointError(
                f"the state of {self.component!r} holds a {tensor.layout} tensor of {tensor.dtype} on {tensor.device} "
                f"at {place}, which safetensors cannot hold; make it a dense tensor of a plain type first"
            )
        where = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.is_conj(), tensor.is_neg())
        identity = (*where, tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and identity in self.names:
            return self.names[identity]
        while place in self.tensors or place == "__metadata__":
            place += "'"
        self.tensors[place] = tensor
        self.names[identity] = place
        return place


def unpack(text: str | bytes, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The state that `pack` was given; the text must name exactly the tensors there are."""
    used: set[str] = set()

    def build(value: Any) -> Any:
        if isinstance(value, list):
            return [build(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$tensor" in value:
            used.add(value["$tensor"])
            return tensors[value["$tensor"]]
        if "$tuple" in value:
            return tuple(build(item) for item in value["$tuple"])
        if "$items" in value:
            return {build(key): build(item) for key, item in value["$items"]}
        if "$float" in value:
            return float(value["$float"])
        return {key: build(item) for key, item in value.items()}

    try:
        state = build(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"its tree is not readable or names a tensor that is not there: {error}") from error
    if used != set(tensors):
        raise CheckpointError(f"it holds tensors that its tree does not name: {sorted(set(tensors) - used)}")
    return state


def tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes the tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def safetensors_chunks(tensors: Mapping[str, Tensor]) -> Iterator[Buffer]:
    """The bytes of a safetensors file, a piece at a time, so that saving needs no second copy of the model."""
    assert sys.byteorder == "little", "safetensors is little-endian"
    ordered = sorted(
        tensors.items(), key=lambda item: (-item[1].element_size(), item[0])
    )  # widest first keeps all aligned
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in ordered:
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % 8)
    small = bytearray(struct.pack("<Q", len(text)) + text)
    for _, tensor in ordered:
        data = _bytes_of(tensor)
        if len(small) + len(data) > _CHUNK:
            yield bytes(small)
            small.clear()
        if len(data) <= _CHUNK:
            small += data
        else:
            yield from (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
    yield bytes(small)


def _bytes_of(tensor: Tensor) -> memoryview:
    if tensor.numel() == 0:
        return memoryview(b"")
    dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return dense.reshape(-1).view(torch.uint8).numpy().data


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, in memory of their own (not mapped: the file may go while they live)."""
    try:
        with safe_open(path, framework="pt", device="cpu") as handle:
            return {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118, it is no mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is not a safetensors file: {error}") from error
