"""What a reward's file has is known before it is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from whet.errors import ConfigError
from whet.rewards.loading import check_place


@pytest.mark.parametrize(
    "text",
    [
        "def score(completions): ...",
        "async def score(completions): ...",
        "class score: ...",
        "score, other = print, 3",
        "from math import sqrt as score",
        "import math.sqrt as score",
        "try:\n    from nowhere import score\nexcept ImportError:\n    score = None",
        "if True:\n    score: object = print",
        "from nowhere import *",
        "def __getattr__(name): ...",
        "globals()['score'] = print",
        "locals().update(score=print)",
        "import sys\nsetattr(sys.modules[__name__], 'score', print)",
        "def add():\n    exec('global score; score = print')\nadd()\nscored = 1",
        "import sys\nsys.modules[__name__].__dict__['score'] = print",
    ],
)
def test_a_name_is_known_without_running_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "my.py"
    file.write_text(text)
    check_place(f"{file}:score")
    check_place(f"{file}:score.part")
    file.write_text("def scores(completions):\n    score = 1\n    return score\n")
    with pytest.raises(ConfigError, match=r"has no 'score' \(did you mean scores\?\); it has scores$"):
        check_place(f"{file}:score")
