"""Every workload on one GPU, with models of Qwen2.5's shapes, random weights and bfloat16.

    python -m benchmarks.gpu                            every row
    python -m benchmarks.gpu sft-0.5B decode-1.5B       two rows; numbers of the others in the file stay
    python -m benchmarks.gpu --wheels wheels            TRL and its needs from a folder of wheels
    python -m benchmarks.gpu --empty                    the table without numbers, where there is no GPU
    python -m benchmarks.gpu --tiny --device cpu        every row at toy size, to try the code; no number means anything

Rows, each for 0.5B and 1.5B (24 layers of width 896, 28 of 1,536; both 151,936 tokens, tied):

    sft dpo dpo-cached reward update    one optimizer step: share of the matrix rate measured in the same run
    decode                              256 responses side by side: share of the copy bandwidth
    graphs generate continuous vllm     sampling: with captured decode steps against without, and against others
    grpo                                sample, reward, update against TRL with `transformers` generate
    lora full                           1.5B only: most memory of a step on 8 × 1,024 tokens

A row is written to the file as soon as it is known: a run may be cut, and what is missing be asked for by name. A peer
that is not installed leaves its cell empty. Nothing is read but this repository and the folder of wheels.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu_rows import Bench, Found

SIZES = ("0.5B", "1.5B")
MISSING = 2
NO_GPU = "torch sees no CUDA device here, so no row was measured; run this on a machine that has one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table: what its figure is, and the goal where there is one."""

    name: str
    words: str
    goal: str
    run: Callable[[Bench], Found]


def rows() -> dict[str, Row]:
    """All rows in the table's order."""
    from benchmarks import gpu_peers, gpu_rows

    share = "share of the matrix rate"
    kinds: list[tuple[str, str, str, Callable[[Bench, str], Found]]] = [
        ("sft", share, "≥ 0.45", partial(gpu_rows.training, "sft")),
        ("dpo", f"{share}, reference live", "≥ 0.45", partial(gpu_rows.training, "dpo")),
        ("dpo-cached", f"{share}, reference cached", "≥ 0.45", partial(gpu_rows.training, "dpo-cached")),
        ("reward", share, "≥ 0.45", partial(gpu_rows.training, "reward")),
        ("update", f"{share}, GRPO's optimizer step", "≥ 0.45", partial(gpu_rows.training, "update")),
        ("decode", "share of the bandwidth, 256 slots", "≥ 0.50", gpu_rows.decode),
        ("graphs", "times faster, decode steps captured or not", "", gpu_rows.graphs),
        ("generate", "times transformers generate", "", gpu_peers.generate),
        ("continuous", "times transformers continuous batching", "≥ 1", gpu_peers.continuous),
        ("vllm", "times vLLM", "≥ 1", gpu_peers.vllm),
        ("grpo", "times TRL's step with transformers generate", "≥ 5", gpu_peers.grpo),
    ]
    made = [
        Row(name=f"{kind}-{size}", words=words, goal=goal, run=partial(_sized, run, size))
        for size in SIZES
        for kind, words, goal, run in kinds
    ]
    for name, words, goal, lora in (
        ("lora", "GiB, 8 × 1,024 tokens, LoRA", "≤ 16 GB", True),
        ("full", "GiB, 8 × 1,024 tokens, all weights, 8-bit moments", "≤ 24 GB", False),
    ):
        run = partial(_sized, partial(gpu_rows.memory, lora), "1.5B")
        made.append(Row(name=f"{name}-1.5B", words=words, goal=goal, run=run))
    return {row.name: row for row in made}


def _sized(run: Callable[[Bench, str], Found], size: str, bench: Bench) -> Found:
    return run(bench, size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that are asked for; the number of rows that failed is the exit status, 2 where there is no GPU."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.device == "cpu" and not asked.tiny:
        parser.error("--device cpu is for trying the code: add --tiny")
    with tempfile.TemporaryDirectory() as site:
        if asked.wheels:
            _install(Path(asked.wheels), site)
        return _run(asked)


def _run(asked: argparse.Namespace) -> int:
    import torch

    known = rows()
    for name in asked.names:
        if name not in known:
            print(f"no row is called {name}; rows: {', '.join(known)}", file=sys.stderr)
            return MISSING
    chosen = [known[name] for name in asked.names or known]
    if asked.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        if asked.empty:
            print("\n".join(lines_of(known.values(), {})))
        return MISSING
    return _measure(chosen, known, asked)


def _measure(chosen: Sequence[Row], known: Mapping[str, Row], asked: argparse.Namespace) -> int:
    from benchmarks.gpu_rows import Bench

    out = Path(asked.out)
    bench = Bench(
        device=asked.device,
        tiny=asked.tiny,
        rounds=asked.rounds,
        budget=asked.budget,
        slots=16 if asked.tiny else asked.slots,
    )
    machine = environment(asked.device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    results = json.loads(out.read_text()) if out.exists() else {}
    failures = 0
    for row in chosen:
        results[row.name] = _found(row, bench) | {"machine": machine, "bench": asdict(bench)}
        failures += "failed" in results[row.name]
        out.write_text(json.dumps(results, indent=1) + "\n")
        print("\n".join(lines_of([row], results)[1:]), flush=True)
    print("\n".join(["", *lines_of(known.values(), results), f"numbers: {out}"]))
    return failures


def _found(row: Row, bench: Bench) -> dict[str, Any]:
    """The row's figure, or why it failed; memory that it held is given back."""
    began = time.perf_counter()
    try:
        found = asdict(row.run(bench))
    except Exception as error:
        traceback.print_exc()
        said = str(error).splitlines() or [""]
        found = {"figure": None, "note": "", "failed": f"{type(error).__name__}: {said[0]}"}
    gc.collect()
    if bench.device == "cuda":
        import torch

        torch.cuda.empty_cache()
    return found | {"seconds in all": time.perf_counter() - began}


def lines_of(chosen: Any, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table: a cell is empty where nothing was measured, and a note says why."""
    cells = [("row", "figure", "goal", "what", "note")]
    for row in chosen:
        found = results.get(row.name, {})
        figure = found.get("figure")
        note = found.get("failed") or found.get("note") or ""
        cells.append((row.name, "" if figure is None else f"{figure:.3g}", row.goal, row.words, note))
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def environment(device: str) -> dict[str, Any]:
    """What the numbers belong to."""
    import torch
    import transformers

    import whet

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU (for trying the code alone)"
    return {"device": name, **{module.__name__: module.__version__ for module in (torch, transformers, whet)}}


def _install(wheels: Path, site: str) -> None:
    """Put the folder's wheels where this process finds them, without asking any registry."""
    found = sorted(map(str, wheels.glob("*.whl")))
    if not found:
        raise SystemExit(f"{wheels} holds no wheels; give a folder with *.whl files")
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *found], check=True)
    sys.path.insert(0, site)


def _parser() -> argparse.ArgumentParser:
    kept = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__, formatter_class=kept)
    parser.add_argument("names", nargs="*", metavar="row", help="rows to measure; all by default")
    parser.add_argument("--out", default="gpu.json", help="file that the numbers are added to")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each side")
    parser.add_argument("--budget", type=int, default=16384, help="tokens in one forward")
    parser.add_argument("--slots", type=int, default=256, help="responses sampled side by side")
    parser.add_argument("--wheels", help="folder of wheels to install for this run: trl, datasets and their needs")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu only with --tiny")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to try the code")
    parser.add_argument("--empty", action="store_true", help="print the table without numbers where there is no GPU")
    return parser


if __name__ == "__main__":
    sys.exit(main())
