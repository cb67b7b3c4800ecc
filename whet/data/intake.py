"""What happened to the rows of a dataset: every one is kept, or counted with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from whet.data.columns import Detected
from whet.data.config import DataConfig
from whet.errors import DataError

LISTED = 20
"""How many bad rows one error lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Counts beside a dataset. `read` = `kept` + `bad` + `overlong` + `identical`, in rows.

    `trimmed` rows lost the beginning of their prompt, `split` ones became several pieces; `last_turn` rows are learned
    from in their last turn only, and `rewritten` ones begin otherwise than what is generated, both because of the chat
    template; `control_text` rows contain control tokens as text; `unknown` counts tokens for letters that the
    vocabulary lacks, `uncounted` those of answers that `data.uncounted` leaves out of the losses.
    """

    detected: Detected
    read: int
    kept: int
    bad: int = 0
    overlong: int = 0
    identical: int = 0
    trimmed: int = 0
    split: int = 0
    duplicates: int = 0
    last_turn: int = 0
    rewritten: int = 0
    control_text: int = 0
    unknown: int = 0
    uncounted: int = 0
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report in words: what was detected, and every count that is not zero."""
        words = {
            "bad": "refused as malformed or empty",
            "overlong": "left out as too long",
            "identical": "left out because both answers are the same",
            "trimmed": "with a prompt cut to its end",
            "split": "divided into consecutive pieces",
            "duplicates": "that repeat an earlier row (kept)",
            "last_turn": "learned from in their last turn only: the chat template rewrites earlier turns",
            "rewritten": "whose answer the chat template begins otherwise than when it asks for one",
            "control_text": "with control tokens in their text, encoded as letters",
        }
        counts = [f"{getattr(self, name)} {text}" for name, text in words.items() if getattr(self, name)]
        unknown = [f"{self.unknown} tokens stand for letters that the vocabulary lacks"] if self.unknown else []
        if self.uncounted:
            unknown.append(f"{self.uncounted} tokens of answers are not counted (data.uncounted)")
        return [
            f"{self.read} rows of kind {self.detected.kind} ({self.detected.why}), {self.kept} kept",
            *counts,
            *unknown,
            *self.notes,
        ]


@dataclass(slots=True, kw_only=True)
class Intake:
    """Counts rows while they pass; `finish` makes the report, or the one error that names every bad row."""

    config: DataConfig
    read: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    overlong: list[str] = field(default_factory=list)
    identical: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    forms: dict[str, int] = field(default_factory=dict)
    seen: dict[int, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def refuse(self, where: str, reason: str) -> None:
        """One bad row; reading ends when there are more than an error would list."""
        self.refused.append(f"{where} {reason}")
        if len(self.refused) >= self.config.max_bad_rows + LISTED:
            self._check_bad(more=True)

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def finish(self, detected: Detected, kept: int) -> Report:
        """The report; an error where a limit is passed or nothing is left."""
        self._check_bad(more=False)
        limits: Mapping[str, tuple[list[str], float, str]] = {
            "overlong": (self.overlong, self.config.overlong_limit, "too long for the context"),
            "identical": (self.identical, self.config.identical_limit, "pairs of two identical answers"),
        }
        for name, (places, limit, words) in limits.items():
            if len(places) > limit * self.read:
                share = (
                    f"{len(places)} of {self.read} rows are {words} (first: {places[0]}); at most {limit:.0%} may be"
                )
                raise DataError(f"{share}: {self._advice(name)}, or raise data.{name}_limit")
        if not kept:
            why = f" (first: {self.refused[0]})" if self.refused else ""
            raise DataError(f"no row is left of {self.read} read{why}" if self.read else "the dataset has no rows")
        return Report(
            detected=detected,
            read=self.read,
            kept=kept,
            bad=len(self.refused),
            overlong=len(self.overlong),
            identical=len(self.identical),
            notes=tuple(self.notes),
            refused=tuple(self.refused),
            **self.counts,
        )

    def _advice(self, name: str) -> str:
        if name == "identical":
            return "remove them"
        raised = "raise data.max_length, " if self.config.max_length is not None else ""
        return f"shorten them, {raised}set data.overlong=keep_end (cuts prompts from the left) or split (texts)"

    def _check_bad(self, *, more: bool) -> None:
        limit = self.config.max_bad_rows
        if len(self.refused) <= limit:
            return
        shown = "\n".join(f"  {line}" for line in self.refused[:LISTED])
        tail = "\n  …" if more or len(self.refused) > LISTED else ""
        many = f"at least {len(self.refused)} rows are" if more else _rows(len(self.refused))
        raise DataError(f"{many} bad, and data.max_bad_rows allows {limit}; mend them or raise it:\n{shown}{tail}")


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count} rows are"
