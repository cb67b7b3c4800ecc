"""Who takes part in a row: Whet, and every peer setting that its own documentation offers for the work.

| peer           | how it is set                                                                                      |
|----------------|----------------------------------------------------------------------------------------------------|
| generate       | `transformers` generate, all responses in one batch                                                |
| continuous     | `transformers` continuous batching, one manager, its default pages of 256 tokens (-32: of 32)      |
| vllm           | vLLM on the CPU, eager, its default blocks of 128 tokens (-32: of 32), prompts shared by its cache |
| trl            | TRL's trainer, all of a step at once                                                               |
| trl-micro      | the same in micro-batches with gradient accumulation, an even part of the step each                |
| trl-grouped    | the same with like lengths together (`train_sampling_strategy="group_by_length"`)                  |
| trl-continuous | TRL's GRPO with `use_transformers_continuous_batching`                                             |
| trl-packing    | TRL's SFT with `packing=True` into rows of the longest text (-wide: of twice that), a row at once  |

vLLM has the OpenMP library that its documentation says to load where that is installed beside it. Where the reference
is cached, TRL has `precompute_ref_log_probs=True`. Not there: `use_liger_kernel` (its kernels need a GPU),
`padding_free` outside packing (flash attention; DPO's is switched off in this version), bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.workloads import Workload

OURS = "whet"
VLLM_MISSING = "vllm not measured: give --vllm PYTHON, an interpreter that has vLLM for the CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One side of a row: `module` does the work as `setting` says, run by `python` (None: this interpreter)."""

    module: str
    setting: Mapping[str, Any] = field(default_factory=dict)
    python: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """What tells this contender from another, for a program."""
        return asdict(self)


def contenders(workload: Workload, *, vllm: str | None = None) -> dict[str, Contender]:
    """Whet first, then the row's peers by name."""
    return {OURS: Contender(module="benchmarks.whet_side"), **_peers(workload, vllm)}


def _peers(workload: Workload, vllm: str | None) -> dict[str, Contender]:
    match workload.kind:
        case "sample":
            continuous = {
                "continuous": _transformers(page=None),
                "continuous-32": _transformers(page=32),
            }
            return {"generate": _transformers(continuous=False), **continuous, **_vllm(workload, vllm)}
        case "grpo":
            return {"trl": _trl(), "trl-micro": _trl(parts=4), "trl-continuous": _trl(continuous=True)}
        case "dpo" | "reward":
            return {"trl": _trl(), "trl-micro": _trl(parts=4), "trl-grouped": _trl(parts=4, grouped=True)}
        case "sft" if workload.packed:
            return {"trl-packing": _trl(packing=1), "trl-packing-wide": _trl(packing=2)}
        case "sft":
            return {"trl": _trl(), "trl-micro": _trl(parts=8), "trl-grouped": _trl(parts=8, grouped=True)}


def _trl(**setting: Any) -> Contender:
    return Contender(module="benchmarks.trl_side", setting=setting)


def _transformers(*, continuous: bool = True, page: int | None = None) -> Contender:
    return Contender(module="benchmarks.transformers_side", setting={"continuous": continuous, "page": page})


def _vllm(workload: Workload, python: str | None) -> dict[str, Contender]:
    if python is None:
        return {}
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": str(kv_gib(workload)),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # as many threads as the others, on no core of their own, as the others
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in the process that is measured
        "VLLM_NO_USAGE_STATS": "1",
        **_intel_openmp(python),
    }
    return {
        name: Contender(module="benchmarks.vllm_side", setting={"block": block}, python=python, environment=environment)
        for name, block in (("vllm", None), ("vllm-32", 32))
    }


def _intel_openmp(python: str) -> dict[str, str]:
    """The OpenMP library that vLLM's documentation says to load first, where it was installed, set as vLLM sets it."""
    library = Path(python).parent.parent / "lib" / "libiomp5.so"
    return {"LD_PRELOAD": str(library), "KMP_BLOCKTIME": "5", "KMP_TPAUSE": "0"} if library.exists() else {}


def kv_gib(workload: Workload) -> int:
    """Whole GiB that hold every prompt once and every response at its longest, and a block of 128 tokens for each.

    >>> from benchmarks.workloads import workloads
    >>> kv_gib(workloads(model="7M")["sample"]), kv_gib(workloads(model="60M")["sample"])
    (1, 3)
    """
    tokens = workload.rows * workload.prompt + workload.sequences * (workload.most + 128)
    return -(-tokens * 8 * workload.shape.width * workload.shape.layers // 2**30)
