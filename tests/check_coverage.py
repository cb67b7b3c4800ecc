"""Hold the coverage of the last test run: 100 % where mathematics and configuration live, 85 % elsewhere.

Reads coverage.json; run by continuous integration after the tests.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WHOLE = (
    "whet/losses/",
    "whet/advantages/",
    "whet/registry.py",
    "whet/members.py",
    "whet/config.py",
    "whet/tree.py",
    "whet/annotations.py",
    "whet/references.py",
    "whet/words.py",
    "whet/metrics.py",
    "whet/batch.py",
)
ELSEWHERE = 85.0


def main(report: Path) -> int:
    files = json.loads(report.read_text())["files"]
    short = []
    covered = total = 0
    for name, found in sorted(files.items()):
        inside = name[name.rindex("whet/") :]
        summary = found["summary"]
        if inside.startswith(WHOLE):
            if summary["percent_covered"] < 100:
                short.append(f"{inside}: {summary['percent_covered']:.1f} % of 100 %: lines {found['missing_lines']}")
            continue
        total += summary["num_statements"] + summary["num_branches"]
        covered += summary["covered_lines"] + summary["covered_branches"]
    share = 100 * covered / max(1, total)
    print(f"coverage elsewhere: {share:.1f} % (at least {ELSEWHERE} %)")
    print("\n".join(short) or "100 % of losses, advantages, registry, config, metrics, batch")
    return int(bool(short) or share < ELSEWHERE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
