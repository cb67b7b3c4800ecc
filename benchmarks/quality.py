"""Processor time from the first step to a fixed held-out pass@1: GRPO on the lab's arithmetic, Whet against TRL.

    python -m benchmarks.quality                    five seeds of both sides in turns, then the control
    python -m benchmarks.quality --choose           the learning rates, on other seeds
    python -m benchmarks.quality --small            one seed, an eighth of the work

Both start from one model (the embedded one after fine-tuning, made once by Whet), learn from the same prompts with the
same verifier, group, prompts a step, response limit, temperature, loss, optimizer and clip. What decides is held-out
pass@1, drawn by one engine with fixed noise and asked every few steps while the clock stands still. The target is the
start's own pass@1 plus `POINTS`, fixed before any run. The control is Whet with a coin as its reward: it must not get
there. Every run is written when it ends, and one that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.duel import ROOT
from benchmarks.quality_job import LIMIT, MOST, Exam, Job

POINTS = 0.15
"""How far above the start the target lies: two thirds of what sixty steps of the job gain at a rate of 2e-4."""
RATES: Mapping[str, float] = {"whet": 4e-4, "trl": 4e-4}
"""The learning rates of the five seeds, as `--choose` found them on the seeds of `CHOOSING`."""
CANDIDATES = (1e-4, 2e-4, 4e-4, 8e-4)
CHOOSING = (100,)
SIDES = ("whet", "trl")
DEMONSTRATIONS = 3000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table; the exit status says whether a run failed to reach the target."""
    asked = _parser().parse_args(arguments)
    folder = Path(asked.folder)
    start = make_start(folder, small=asked.small)
    before = started(folder, start)
    base = job_of(asked, target=before["exam"] + asked.points if asked.target is None else asked.target)
    print(f"pass@1 before {before['exam']:.3f}, target {base.target:.3f}; {base}", flush=True)
    if asked.choose:
        found = [run(job, folder, start, asked.threads) for job in choosing(base)]
        print("\n".join(choice_lines(found)))
        return 0
    found = []
    for job in contest(base, asked.seeds, {"whet": asked.whet_rate, "trl": asked.trl_rate}):
        found.append(run(job, folder, start, asked.threads))
        summary = {"before": before, "target": base.target, **summary_of(found)}
        Path(asked.out).write_text(json.dumps({**summary, "runs": found}, indent=1) + "\n")
    print("\n".join(lines_of(summary_of(found), before=before, target=base.target)))
    return int(not verdict(summary_of(found)))


def make_start(folder: Path, *, small: bool) -> Path:
    """The model both sides start from, made once: the embedded one, fine-tuned on demonstrations of both worlds."""
    start = folder / "start" / "final"
    if start.exists():
        return start
    from whet.build.loops import prepare, quiet_libraries
    from whet.files import write_folder_atomically
    from whet.recipes.quickstart import RewardParams, sft_of
    from whet.rundir import RunDir, describe_environment

    quiet_libraries()
    config = sft_of(RewardParams(demonstrations=DEMONSTRATIONS // 8 if small else DEMONSTRATIONS))
    kept, environment = config.model_dump(mode="json"), describe_environment(threads=1)

    def write(place: Path) -> None:
        with RunDir.create(place / "run", kept, origins={}, environment=environment) as opened:
            job = prepare(config, opened)
            with job.session:
                job.work()
            job.finish()
        (place / "run" / "final").rename(place / "final")

    folder.mkdir(parents=True, exist_ok=True)
    write_folder_atomically(folder / "start", write)
    return start


def started(folder: Path, start: Path) -> dict[str, float]:
    """The start's own pass@1 in the exam that decides and in the final one, measured once."""
    known = folder / "before.json"
    if not known.exists():
        exam = Exam(start, limit=LIMIT)
        known.write_text(json.dumps({"exam": exam(), "final": exam.final()}))
    return json.loads(known.read_text())


def job_of(asked: argparse.Namespace, *, target: float) -> Job:
    """The job that all runs share but for side, seed, rate and reward."""
    job = Job(side="whet", seed=0, rate=0.0, target=target, most=asked.most)
    return replace(job, prompts=8, most=min(asked.most, 8)) if asked.small else job


def contest(base: Job, seeds: int, rates: Mapping[str, float]) -> list[Job]:
    """Both sides in turns, seed by seed, then the control on the first seed.

    >>> [job.name for job in contest(Job(side="whet", seed=0, rate=0.0, target=0.5), 1, {"whet": 0.5, "trl": 0.25})]
    ['whet-right-0.5-seed0', 'trl-right-0.25-seed0', 'whet-coin-0.5-seed0']
    """
    runs = [replace(base, side=side, seed=seed, rate=rates[side]) for seed in range(seeds) for side in SIDES]
    return [*runs, replace(base, side="whet", rate=rates["whet"], reward="coin")]


def choosing(base: Job) -> list[Job]:
    """Every candidate rate of both sides on seeds that are not reported."""
    return [
        replace(base, side=side, seed=seed, rate=rate) for seed in CHOOSING for rate in CANDIDATES for side in SIDES
    ]


def run(job: Job, folder: Path, start: Path, threads: int) -> dict[str, Any]:
    """What a run measured: from its file where the same job is there already, else from a process of its own."""
    out = folder / f"{job.name}.json"
    if not out.exists() or json.loads(out.read_text())["job"] != asdict(job):
        command = [sys.executable, "-m", "benchmarks.quality_run", str(start), str(out), json.dumps(asdict(job))]
        with (folder / f"{job.name}.log").open("w") as log:
            subprocess.run(command, check=True, cwd=ROOT, env=_environment(threads), stdout=log, stderr=log)
    found = json.loads(out.read_text())
    print(_line(found), flush=True)
    return found


def _environment(threads: int) -> dict[str, str]:
    own = {
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return os.environ | own | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def _line(found: Mapping[str, Any]) -> str:
    job, crossing, last = found["job"], found["crossing"], found["curve"][-1]
    where = f"target after {crossing['steps']} steps, {crossing['cpu']:.1f} CPU s" if crossing else "target not reached"
    run = f"{job['side']} seed {job['seed']} rate {job['rate']:g} reward {job['reward']}"
    return f"{run}: {where}; {last['steps']} steps, {last['cpu']:.1f} CPU s, final pass@1 {found['final']:.3f}"


def summary_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per seed CPU seconds and steps of both sides with their ratio (None where one never got there); the control."""
    mine = [found for found in runs if found["job"]["reward"] == "right"]
    by = {(found["job"]["side"], found["job"]["seed"]): found for found in mine}
    seeds = [_seed(seed, by) for seed in sorted({seed for _, seed in by}) if all((side, seed) in by for side in SIDES)]
    ratios = [seed["ratio"] for seed in seeds if seed["ratio"] is not None]
    control = next((found for found in runs if found["job"]["reward"] == "coin"), None)
    return {
        "seeds": seeds,
        "ratio": statistics.median(ratios) if ratios and len(ratios) == len(seeds) else None,
        "range": [min(ratios), max(ratios)] if ratios else None,
        "control": control and {"reached": control["crossing"] is not None, "final": control["final"]},
    }


def _seed(seed: int, by: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, Any]:
    sides = {side: by[side, seed] for side in SIDES}
    crossed = {side: found["crossing"] for side, found in sides.items()}
    reached = all(crossed.values())
    return {
        "seed": seed,
        **{side: {"crossing": crossed[side], "final": found["final"]} for side, found in sides.items()},
        "ratio": crossed["whet"]["cpu"] / crossed["trl"]["cpu"] if reached else None,
    }


def verdict(summary: Mapping[str, Any]) -> bool:
    """Whether every seed of both sides got there and the control did not."""
    control = summary["control"]
    return summary["ratio"] is not None and control is not None and not control["reached"]


def lines_of(summary: Mapping[str, Any], *, before: Mapping[str, float], target: float) -> list[str]:
    """The table: CPU seconds and steps to the target, their ratio, and pass@1 on prompts that decided nothing."""
    out = [
        f"{'seed':>4s} {'whet CPU s':>11s} {'steps':>6s} {'trl CPU s':>11s} {'steps':>6s} {'ratio':>7s}   final pass@1"
    ]
    for row in summary["seeds"]:
        cells = [f"{row['seed']:>4d}"]
        for side in SIDES:
            crossing = row[side]["crossing"]
            cells += (
                [f"{crossing['cpu']:>11.1f}", f"{crossing['steps']:>6d}"] if crossing else [f"{'-':>11s}", f"{'-':>6s}"]
            )
        cells.append("      -" if row["ratio"] is None else f"{row['ratio']:>7.3f}")
        out.append(" ".join(cells) + f"   whet {row['whet']['final']:.3f}, trl {row['trl']['final']:.3f}")
    if summary["ratio"] is not None:
        low, high = summary["range"]
        out.append(
            f"median ratio {summary['ratio']:.3f} ({low:.3f}-{high:.3f}): Whet's CPU time over TRL's to the target"
        )
    out.append(
        f"from pass@1 {before['exam']:.3f} to {target:.3f} on held-out prompts; the final numbers are of other "
        f"prompts, on which the start has {before['final']:.3f}"
    )
    if summary["control"] is not None:
        said = "REACHED the target" if summary["control"]["reached"] else "did not reach the target"
        out.append(f"control (Whet, a coin as reward): {said}, final pass@1 {summary['control']['final']:.3f}")
    return out


def choice_lines(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean CPU seconds to the target of each side and rate, and which is the least (never reached: no number)."""
    out = []
    for side in SIDES:
        means: dict[float, float] = {}
        for rate in dict.fromkeys(found["job"]["rate"] for found in runs):
            crossed = [f["crossing"] for f in runs if (f["job"]["side"], f["job"]["rate"]) == (side, rate)]
            if all(crossed):
                means[rate] = statistics.mean(c["cpu"] for c in crossed)
            said = f"{means[rate]:.1f} CPU s" if rate in means else "not always reached"
            out.append(f"{side} rate {rate:g}: {said} ({len(crossed)} seeds)")
        out.append(f"{side}: {min(means, key=means.__getitem__):g}" if means else f"{side}: none")
    return out


def _parser() -> argparse.ArgumentParser:
    kept = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__, formatter_class=kept)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each side")
    parser.add_argument("--target", type=float, help="held-out pass@1 to reach; by default the start's plus --points")
    parser.add_argument("--points", type=float, default=POINTS, help="how far above the start the target lies")
    parser.add_argument("--most", type=int, default=MOST, help="steps after which a run gives up")
    parser.add_argument("--whet-rate", type=float, default=RATES["whet"], help="Whet's learning rate")
    parser.add_argument("--trl-rate", type=float, default=RATES["trl"], help="TRL's learning rate")
    parser.add_argument("--choose", action="store_true", help="compare learning rates on other seeds instead")
    parser.add_argument("--small", action="store_true", help="an eighth of the prompts, eight steps")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side")
    parser.add_argument("--folder", default="quality-runs", help="where runs are kept, so that none is repeated")
    parser.add_argument("--out", default="quality.json", help="where the numbers go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
