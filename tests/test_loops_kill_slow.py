"""Fifty kills, the place of each recorded: at least ten in sampling, in updates and in saves, and through one save."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from crashes import swift_folder
from forge import forge

pytestmark = pytest.mark.slow

KILLS = {
    "supervised": {"update": 2, "save": 1, "final": 1},
    "reward_model": {"update": 2, "save": 1, "rows": 1},
    "dpo": {"update": 2, "save": 1, "forward": 1},
    "kto": {"update": 2, "rows": 1},
    "grpo": {"sampling": 7, "scoring": 1, "journal": 2, "rows": 2, "final": 1, "done": 1},
    "ppo": {"sampling": 6, "update": 6, "scoring": 1, "forward": 2, "journal": 1},
}


def spread(places: Sequence[int], count: int) -> list[int]:
    """`count` of the places, evenly from the first to the last."""
    return [places[round(i * (len(places) - 1) / max(1, count - 1))] for i in range(min(count, len(places)))]


def numbers(events: Sequence[str], area: str) -> list[int]:
    return [number for number, event in enumerate(events, 1) if event.split()[0] == area]


def one_save(events: Sequence[str], step: int) -> list[int]:
    """Every file operation from the first to the last of the save of a step."""
    touched = [n for n, event in enumerate(events, 1) if f"checkpoints/.tmp_{step}_" in event]
    return list(range(touched[0], touched[-1] + 2))


def test_an_adapter(tmp_path: Path) -> None:
    """Its final folder has no config.json of a model, and is whole all the same."""
    with swift_folder() as place:
        forge().ask("kills:prepare", root=str(place))
        events = forge().ask("kills:events", root=str(place), case="lora")
        last = [n for area in ("update", "save", "final", "done") for n in spread(numbers(events, area), 3)[1:]]
        for number in last:
            outcome = forge().ask("kills:killed", root=str(place), case="lora", at=[number])
            assert outcome["different"] == [] and outcome["leftovers"] == [], outcome
            assert "final/adapter_model.safetensors" in outcome["compared"]
        assert forge().ask("kills:law", root=str(place), case="lora")["job"] == []


def test_fifty_kills(tmp_path: Path) -> None:
    areas: Counter[str] = Counter()
    with swift_folder() as place, (tmp_path / "kills.jsonl").open("w") as record:
        root = str(place)
        forge().ask("kills:prepare", root=root)
        for case, plan in KILLS.items():
            events = forge().ask("kills:events", root=root, case=case)
            at = sorted({n for area, count in plan.items() for n in spread(numbers(events, area), count)})
            at += [n for n in one_save(events, 4)[::2] if n not in at] if case == "ppo" else []
            for number in at:
                outcome = forge().ask("kills:killed", root=root, case=case, at=[number])
                (where,) = outcome["places"]
                record.write(json.dumps({"case": case, "event": number, "of": len(events), "place": where}) + "\n")
                assert outcome["different"] == [] and outcome["leftovers"] == [], (case, number, outcome)
                areas[where.split()[0]] += 1
    print(f"\n{areas.total()} kills: {dict(areas)}; each in {tmp_path / 'kills.jsonl'}")
    assert areas.total() >= 50 and min(areas[area] for area in ("sampling", "update", "save")) >= 10, areas
