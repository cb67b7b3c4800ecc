"""Every error a user can meet, as one small tree.

    WhetError                  exit code 1: something the user can act on; the text says what to do
    ├── ConfigError            2  an option, name, file of options or recipe is wrong
    ├── DataError              3  a dataset file or row is wrong
    ├── ModelError             3  a model folder, tokenizer or template cannot serve
    ├── RewardError            4  a reward function raised, lied about its shape, or hung
    ├── NumericsError          5  a loss or gradient is not finite; nothing was updated
    ├── RunError               6  the run folder is in use, read-only, full or not a run
    │   └── CheckpointError    6  no checkpoint verifies, or the state does not fit
    ├── MissingExtra           7  an optional package is needed; the text has its pip line
    └── Interrupted          130  the user pressed Ctrl-C; the last step is saved

A bug of Whet itself is never a `WhetError`: assertions and built-in exceptions keep their traceback.

>>> MissingExtra("peft", extra="lora", why="lora=true trains adapters").exit_code
7
"""

from __future__ import annotations


class WhetError(Exception):
    """A failure with one clear sentence: what was given, what is allowed, what to do."""

    exit_code = 1


class ConfigError(WhetError):
    """An option, a name, a recipe or a configuration file is wrong; several problems are told in one error.

    >>> print(ConfigError("a is unknown", "b must be given"))
    2 problems in the configuration:
      a is unknown
      b must be given
    """

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        head = f"{len(self.problems)} problems in the configuration:"
        super().__init__("\n  ".join(self.problems if len(self.problems) == 1 else (head, *self.problems)))


class DataError(WhetError):
    """A dataset file or one of its rows is wrong; the text names file, line and reason."""

    exit_code = 3


class ModelError(WhetError):
    """A model folder, tokenizer or chat template cannot serve what was asked."""

    exit_code = 3


class RewardError(WhetError):
    """A reward function raised, returned the wrong shape or a non-number, or hung past its deadline."""

    exit_code = 4


class NumericsError(WhetError):
    """A loss or gradient is not finite; parameters and optimizer state are as before the step."""

    exit_code = 5


class RunError(WhetError):
    """A run folder is in use, unreadable, full, or not a run folder."""

    exit_code = 6


class CheckpointError(RunError):
    """No checkpoint verifies, or its state does not fit what should receive it."""


class MissingExtra(WhetError):
    """An optional package is missing; the text has the pip line that brings it."""

    exit_code = 7

    def __init__(self, package: str, *, extra: str, why: str) -> None:
        super().__init__(f"{why}, which needs the package {package!r}: pip install 'whet[{extra}]'")


class Interrupted(WhetError):
    """The user asked to stop; the step that was running is finished and saved."""

    exit_code = 130
