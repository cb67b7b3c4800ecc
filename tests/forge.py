"""A process to fork from: it has imported what a run needs and run nothing parallel, so a child can be killed anywhere.

Tests ask it, in JSON, to call a function of a module in this folder; the function forks the children that do the work.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

IMPORTED = (
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "GenerationConfig",
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
)


class Forge:
    """The process, started once for all the tests of a worker."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        environment.pop("COLUMNS", None)
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        atexit.register(self._end)

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it reads the end of its questions, and ends
        self._process.wait()

    def ask(self, function: str, **arguments: Any) -> Any:
        """What `module:function` returns there."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the forge ended"}')
        assert "error" not in answer, answer["error"]
        return answer["value"]


@cache
def forge() -> Forge:
    return Forge()


def in_child(work: Callable[[], object], said: Path) -> int:
    """Run `work` in a forked child that writes stdout and stderr to a file; its exit code, -9 when it was killed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        written = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(written, 1)
        os.dup2(written, 2)
        try:
            work()
        except SystemExit as error:
            _leave(error.code if isinstance(error.code, int) else 1)
        except BaseException:
            traceback.print_exc()
            _leave(1)
        _leave(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve() -> None:
    import torch
    import torch._dynamo
    import transformers

    for name in IMPORTED:  # transformers imports what a name needs when it is first looked up
        getattr(transformers, name)
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may write among the answers
    for line in sys.stdin:
        asked = json.loads(line)
        module, _, name = asked["function"].partition(":")
        try:
            assert len(os.listdir("/proc/self/task")) == 1, "the process to fork from has one thread"
            answer = {"value": getattr(importlib.import_module(module), name)(**asked["arguments"])}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # there is nothing to tidy, and thousands of modules take seconds


if __name__ == "__main__":
    _serve()
