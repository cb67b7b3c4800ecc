"""What a reference says of data that does not change: computed once for all epochs, kept by the hash of what it is of.

    key of a part = sha256(the reference's weights and form; tokens and mask of every row, in order)

Tokens and mask hold all that tokenizer and template did, so another model, tokenizer, template or row is another file,
and no file is ever stale. A part is computed in an order that follows from the data alone and is written before the
first step, so a resumed run reads the very bits it began with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from whet.batch import TokenBatch, Tree, pack
from whet.files import OS_FILES, Files, explained, make_folders, replace_file, sweep
from whet.models.policy import Decoder
from whet.train.credit import token_column
from whet.train.step import Reference

PART: Final = 1024
"""Rows of one file: what is lost where a process is killed while it computes them."""
FORM: Final = "whet reference 1"
ASIDE: Final = frozenset({"_name_or_path", "transformers_version"})
"""What a model's configuration says that no number follows from."""


@dataclass(slots=True, kw_only=True)
class OfflineReference:
    """The reference of a loop over trees, with log π_ref of those that are looked at more than once.

    `mode` is the option `reference_cache`; `own` is the run's folder for the values. `held` are held-out trees with how
    often each is measured. `watched` is true where a term looks at the model itself (a statistic of two models): only
    then it is still there once everything is known.
    """

    model: Reference | None
    budget: int
    mode: str = "off"
    own: Path | None = None
    held: Sequence[tuple[Tree, int]] = ()
    watched: bool = False
    note: Callable[..., None] = lambda kind, **details: None
    files: Files = OS_FILES
    rows: int = PART
    _known: dict[int, tuple[Tree, Tensor]] = field(default_factory=dict[int, tuple[Tree, Tensor]])
    """By the identity of a tree, which is kept here so that no other can take its place."""

    @property
    def other(self) -> Decoder | None:
        """The model that two-model statistics look at."""
        return None if self.model is None else self.model.model

    def prepare(self, visits: Sequence[tuple[Tree, int]], *, pause: Callable[[], None] = lambda: None) -> None:
        """Know the values of trees that will be looked at several times (in a shared folder: at all), in this order.

        `pause` is called between two parts and may raise, which loses neither.
        """
        wanted = [part for some in (visits, self.held) if self._worth(some) for part in self._parts(some)]
        if not wanted:
            return
        assert self.model is not None, "prepared once, before the first step"
        if self.own is not None:
            sweep(self.own, files=self.files)
        name, read, computed = identity(self.model), 0, 0
        for part in wanted:
            pause()
            values, found = self._part(part, key_of(name, part))
            read, computed = read + found * len(part), computed + (not found) * len(part)
            self._known |= {id(tree): (tree, own) for tree, own in zip(part, values, strict=True)}
        self.note("reference", rows_computed=computed, rows_read=read)
        if not self.watched and all(id(tree) in self._known for tree, times in (*visits, *self.held) if times):
            self.model = None  # nothing asks it again, and it may be as large as the policy

    def annotate(self, batch: TokenBatch, trees: Sequence[Tree]) -> TokenBatch:
        """The packed trees with their column `reference`: known values, else the model's, at once for all of them."""
        known = [self._known[id(tree)][1] for tree in trees if id(tree) in self._known]
        if len(known) == len(trees):
            return batch.with_columns(token={"reference": torch.cat(known) if known else torch.zeros(0)})
        if self.watched:
            return batch  # the pass of the statistic gives them
        assert self.model is not None, "a tree that was never announced"
        return batch.with_columns(token={"reference": token_column(self.model, batch, "logprobs", budget=self.budget)})

    def _worth(self, visits: Sequence[tuple[Tree, int]]) -> bool:
        """Whether values are kept: seen once only, they are cheaper where they are needed, unless others share them."""
        if self.mode == "off":
            return False
        return self.mode != "auto" or any(times > 1 for _, times in visits)

    def _parts(self, visits: Sequence[tuple[Tree, int]]) -> Iterator[list[Tree]]:
        trees = [tree for tree, times in visits if times]
        return (trees[at : at + self.rows] for at in range(0, len(trees), self.rows))

    def _part(self, trees: Sequence[Tree], key: str) -> tuple[list[Tensor], bool]:
        """The values of a part, and whether a file had them."""
        lengths = [sum(rollout.length for rollout in tree.rollouts) for tree in trees]
        places = [folder / f"{key}.safetensors" for folder in self._folders()]
        found, lacking = None, []
        for place in places:
            found = self._read(place, sum(lengths))
            if found is not None:
                break
            lacking.append(place)
        values = self._computed(trees) if found is None else found
        for place in lacking:
            self._write(place, values)
        return list(values.split(lengths)), found is not None

    def _folders(self) -> list[Path]:
        """The run's own first: what it began with is what it goes on with."""
        shared = [] if self.mode == "auto" else [Path(self.mode).expanduser()]
        return ([] if self.own is None else [self.own]) + shared

    def _read(self, path: Path, count: int) -> Tensor | None:
        if not path.exists():
            return None
        with explained(f"read {path}"):
            data = path.read_bytes()
        values = _checked(data, count)
        if values is None:
            self.note("warning", text=f"{path} is damaged, so its {count} values are computed again")
        return values

    def _write(self, path: Path, values: Tensor) -> None:
        with explained(f"make the folder {path.parent}"):
            make_folders(path.parent, files=self.files)
        checked = {"values": values, "sha256": torch.tensor(list(_digest(values)), dtype=torch.uint8)}
        replace_file(path, save(checked), files=self.files)

    def _computed(self, trees: Sequence[Tree]) -> Tensor:
        assert self.model is not None, "a reference to ask"
        batches = [pack(chosen) for chosen in _filled(trees, self.budget)]
        return torch.cat([token_column(self.model, batch, "logprobs", budget=self.budget) for batch in batches])


def identity(reference: Reference) -> str:
    """What a reference's numbers follow from, as one hash: its weights, its configuration, and its adapter if on.

    How much an adapter adds follows from several of its options, so it is read off its layers.
    """
    decoder = reference.model
    form = {k: v for k, v in decoder.config.to_dict().items() if k not in ASIDE}
    adapted = decoder.adapter is not None and not reference.adapter_off
    layers = [(name, m) for name, m in decoder.hf.named_modules() if adapted and hasattr(m, "lora_A")]
    words = [
        FORM,
        decoder.fingerprint(adapter=not reference.adapter_off, heads=False),
        json.dumps(form, sort_keys=True, default=str),
        *(f"{name} {layer.scaling}" for name, layer in layers),
    ]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def key_of(name: str, trees: Sequence[Tree]) -> str:
    """The content hash of a reference's values for these trees, in this order."""
    digest = hashlib.sha256(name.encode())
    for tree in trees:
        digest.update(f"tree {len(tree.rollouts)}".encode())
        for rollout in tree.rollouts:
            digest.update(f" {len(rollout.tokens)} ".encode())
            digest.update(np.asarray(rollout.tokens, dtype="<i8").tobytes())
            digest.update(np.asarray(rollout.mask, dtype="u1").tobytes())
    return digest.hexdigest()


def _filled(trees: Sequence[Tree], budget: int) -> Iterator[list[Tree]]:
    """Neighbours that make one forward of at most `budget` tokens together."""
    chosen: list[Tree] = []
    held = 0
    for tree in trees:
        size = sum(len(rollout.response) for rollout in tree.rollouts)
        size += sum(map(len, {rollout.prompt for rollout in tree.rollouts}))
        if chosen and held + size > budget:
            yield chosen
            chosen, held = [], 0
        chosen.append(tree)
        held += size
    if chosen:
        yield chosen


def _checked(data: bytes, count: int) -> Tensor | None:
    """The values in a file's bytes, or None where they are not as they were written."""
    try:
        saved = load(data)
        values, digest = saved["values"], bytes(saved["sha256"].tolist())
    except (SafetensorError, KeyError, ValueError):
        return None
    return values if values.shape == (count,) and _digest(values) == digest else None


def _digest(values: Tensor) -> bytes:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).digest()
