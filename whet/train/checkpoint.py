"""Checkpoints: a step's whole state, there whole or not at all, and never believed without its hashes.

    checkpoints/step_200/
        MANIFEST.json               format, step, what the run is (config, tokenizer, data), size and sha256 of every
        file policy.json                 the component's tree: numbers, strings, and where its tensors go
        policy.safetensors          its tensors, if it has any
        ...                         the same for each component

Saving: everything into `.tmp_<step>_<pid>`, each file fsynced, the folder fsynced, one rename, the parent fsynced;
only then is an older checkpoint removed. Loading: the newest whose manifest, sizes, hashes and key sets all hold;
every one passed over is reported with its reason. The caller holds the run's lock (`whet.rundir`), and has made the
rows of the step durable.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from torch import Tensor

from whet.errors import CheckpointError
from whet.files import OS_FILES, Buffer, Files, explained, make_folders, remove_folder, write_file
from whet.plain import differences, json_hash, to_json
from whet.train.receive import check_keys
from whet.train.statefile import pack, read_safetensors, safetensors_chunks, tensor_bytes, unpack

FORMAT: Final = 1
MANIFEST: Final = "MANIFEST.json"
_STEP: Final = re.compile(r"step_(0|[1-9][0-9]*)")
_COMPONENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class HasState(Protocol):
    """What a loop may be given: its state goes into each checkpoint and comes back from it."""

    def state(self) -> Mapping[str, Any]: ...
    def load_state(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run is; a checkpoint of another run is refused by it, with each difference named."""

    config: Mapping[str, Any]
    """The resolved options that shape the numbers (not the folder's name, not how often to save)."""
    tokenizer_hash: str
    data_fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which checkpoints stay: the newest `last` of those that count, the one with the best metric, and the newest."""

    last: int = 2
    every: int = 0
    """Steps that are multiples of it count; any other stays only until the next is saved. 0: all count."""
    best: str | None = None
    """Name of the metric that decides which is best, or None."""
    mode: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        if self.last < 1:
            raise CheckpointError(f"keep.last is {self.last}; at least 1 checkpoint must stay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A checkpoint that verified, and what was passed over on the way to it."""

    path: Path
    step: int
    state: dict[str, dict[str, Any]]
    metrics: Mapping[str, float]
    rejected: tuple[tuple[Path, str], ...] = ()
    """Newer checkpoints that did not verify, each with its reason."""
    warnings: tuple[str, ...] = ()


# ----------------------------------------------------------------------------------------------------------- saving


def save(
    folder: Path,
    step: int,
    state: Mapping[str, Mapping[str, Any]],
    *,
    identity: Identity,
    metrics: Mapping[str, float] | None = None,
    keep: Keep | None = None,
    files: Files = OS_FILES,
) -> Path:
    """Save one step's state, by component; returns its folder, which is durable.

    A state may hold tensors (any plain type, on any device, tied or empty), numbers, strings, None, lists, tuples and
    mappings. A full disk, a failed write or an unfit state is a `CheckpointError`; the older checkpoints are then as
    they were.

    >>> import tempfile, torch
    >>> identity = Identity(config={"lr": 0.1}, tokenizer_hash="t", data_fingerprint="d")
    >>> with tempfile.TemporaryDirectory() as place:
    ...     path = save(Path(place), 3, {"policy": {"weight": torch.ones(2)}}, identity=identity)
    ...     path.name, load_latest(Path(place), identity=identity).state
    ('step_3', {'policy': {'weight': tensor([1., 1.])}})
    """
    packed = {name: pack(part, component=_checked_name(name)) for name, part in state.items()}
    with explained(f"save step {step} in {folder}", kind=CheckpointError):
        make_folders(folder, files=files)
        _make_way(folder, step, files)
        _check_space(folder, sum(len(text) + tensor_bytes(tensors) for text, tensors in packed.values()), files)
        path = _commit(folder, step, packed, _description(step, identity, metrics or {}), files)
    with explained(f"remove checkpoints older than step {step}, which is saved, from {folder}", kind=CheckpointError):
        _remove_old(folder, step, keep or Keep(), files)
    return path


def _checked_name(name: str) -> str:
    if not _COMPONENT.fullmatch(name):
        raise CheckpointError(
            f"a component's name becomes a file's name, and {name!r} cannot; use letters, digits and _ . -"
        )
    return name


def _description(step: int, identity: Identity, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "step": step,
        "config": dict(identity.config),
        "config_hash": json_hash(identity.config),
        "tokenizer_hash": identity.tokenizer_hash,
        "data_fingerprint": identity.data_fingerprint,
        "code_version": _code_version(),
        "metrics": dict(metrics),
    }


def _code_version() -> str:
    try:
        return metadata.version("whet")
    except metadata.PackageNotFoundError:
        return "source"


def _make_way(folder: Path, step: int, files: Files) -> None:
    """A checkpoint of this step or later may stand here only if it is broken; then it is renamed, not removed."""
    for later, path in _steps(folder):
        if later < step:
            continue
        if _is_whole(path):
            raise CheckpointError(
                f"{path} is a good checkpoint, so step {step} is not saved beside it; "
                "resume from it or use another folder"
            )
        number = 1
        while (aside := folder / f"broken_{path.name}-{number}").exists():
            number += 1
        files.rename(path, aside)
        files.fsync_folder(folder)


def _is_whole(path: Path) -> bool:
    try:
        _verified(path)
    except CheckpointError:
        return False
    return True


def _check_space(folder: Path, size: int, files: Files) -> None:
    free = files.free_bytes(folder)
    if free < 2 * size:
        raise CheckpointError(
            f"{folder} has {free / 1e6:.1f} MB free and a checkpoint of {size / 1e6:.1f} MB needs twice its size; "
            "free some space and resume, the older checkpoints are intact"
        )


def _commit(
    folder: Path, step: int, packed: Mapping[str, tuple[str, dict[str, Tensor]]], about: dict[str, Any], files: Files
) -> Path:
    temporary, path = folder / f".tmp_{step}_{os.getpid()}", folder / f"step_{step}"
    if temporary.exists():
        remove_folder(temporary, files=files)
    try:
        files.mkdir(temporary)
        written: dict[str, Any] = {}
        for file, chunks in _contents(packed):
            size, digest = write_file(temporary / file, chunks, files=files)
            written[file] = {"size": size, "sha256": digest}
        about = about | {"components": list(packed), "files": written}
        write_file(temporary / MANIFEST, [_manifest_text(about)], files=files)
        files.fsync_folder(temporary)
        files.rename(temporary, path)
    except BaseException:
        # the first error is the one to report; what stays is swept when the run is next opened
        with contextlib.suppress(OSError):
            remove_folder(temporary, files=OS_FILES)
        raise
    files.fsync_folder(folder)
    return path


def _contents(packed: Mapping[str, tuple[str, dict[str, Tensor]]]) -> Iterator[tuple[str, Iterable[Buffer]]]:
    for name, (text, tensors) in packed.items():
        yield f"{name}.json", [text.encode("ascii")]
        if tensors:
            yield f"{name}.safetensors", safetensors_chunks(tensors)


def _manifest_text(about: Mapping[str, Any]) -> bytes:
    """The manifest in its one form, with its own hash: no byte of it can change unseen."""
    return (to_json({**about, "sha256": json_hash(about)}) + "\n").encode("ascii")


def _remove_old(folder: Path, step: int, keep: Keep, files: Files) -> None:
    older = [number for number, _ in _steps(folder) if number < step]
    counted = [number for number in (*older, step) if keep.every == 0 or number % keep.every == 0]
    staying = {*counted[-keep.last :], best_step(folder, keep)}
    for number in sorted({*older} - staying):  # renamed first: a half-removed one is never taken for a broken one
        doomed = folder / f".tmp_removed_{number}_{os.getpid()}"
        if doomed.exists():
            remove_folder(doomed, files=files)
        files.rename(folder / f"step_{number}", doomed)
        remove_folder(doomed, files=files)


def _steps(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a folder, oldest first."""
    if not folder.is_dir():
        return []
    found = ((_STEP.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def best_step(folder: Path, keep: Keep) -> int | None:
    """The step with the best value of the metric that `keep` names, of equals the first; None without one."""
    worths = _worths(folder, keep)
    return max(worths, key=lambda step: (worths[step], -step), default=None)


def would_be_best(folder: Path, metrics: Mapping[str, float], keep: Keep) -> bool:
    """Whether a step with these numbers, saved now, would be `best_step`."""
    worth = _worth(metrics, keep)
    return worth is not None and all(worth > other for other in _worths(folder, keep).values())


def _worths(folder: Path, keep: Keep) -> dict[int, float]:
    found: dict[int, float] = {}
    for step, path in _steps(folder):
        with contextlib.suppress(CheckpointError):  # a broken one is no candidate; loading reports it
            worth = _worth(_read_manifest(path)["metrics"], keep)
            if worth is not None:
                found[step] = worth
    return found


def _worth(metrics: Mapping[str, float], keep: Keep) -> float | None:
    """What `keep` looks at, larger being better; None where it is missing or not a number."""
    value, sign = metrics.get(keep.best or ""), 1 if keep.mode == "max" else -1
    return None if value is None or math.isnan(value) else sign * value


# ---------------------------------------------------------------------------------------------------------- loading


def load_latest(folder: Path, *, identity: Identity | None = None) -> Loaded | None:
    """The newest checkpoint that verifies, or None where there is none at all.

    All broken is a `CheckpointError` naming each reason; so is a good one of another run (`identity`), naming each
    difference.
    """
    rejected: list[tuple[Path, str]] = []
    for _, path in reversed(_steps(folder)):
        try:
            about = _verified(path)
        except CheckpointError as error:
            rejected.append((path, str(error)))
        else:
            return _assemble(path, about, identity, tuple(rejected))
    if not rejected:
        return None
    reasons = "; ".join(f"{path.name}: {reason}" for path, reason in rejected)
    raise CheckpointError(
        f"no checkpoint in {folder} is whole ({reasons}); restore one from a copy, or start the run again in a new "
        "folder"
    )


def load(path: Path, *, identity: Identity | None = None) -> Loaded:
    """One checkpoint by its folder, verified; see `load_latest`."""
    try:
        about = _verified(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not whole ({error}); load another or restore it from a copy") from error
    return _assemble(path, about, identity, ())


def _assemble(
    path: Path, about: dict[str, Any], identity: Identity | None, rejected: tuple[tuple[Path, str], ...]
) -> Loaded:
    if identity is not None:
        _check_identity(path, about, identity)
    state = {name: _read_component(path, name, about["files"]) for name in about["components"]}
    warnings = tuple(_oddities(path, about))
    return Loaded(
        path=path, step=about["step"], state=state, metrics=about["metrics"], rejected=rejected, warnings=warnings
    )


def _read_component(path: Path, name: str, names: Collection[str]) -> dict[str, Any]:
    try:
        tensors = read_safetensors(path / f"{name}.safetensors") if f"{name}.safetensors" in names else {}
        return unpack((path / f"{name}.json").read_bytes(), tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}, component {name}: {error}") from error


def _verified(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose every byte is as it was written; otherwise an error with the reason."""
    about = _read_manifest(path)
    _verify_files(path, about)
    return about


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        text = (path / MANIFEST).read_bytes()
        about = json.loads(text)
        digest = about.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{MANIFEST} is missing or unreadable ({type(error).__name__})") from error
    if digest != json_hash(about) or text != _manifest_text(about):
        raise CheckpointError(f"{MANIFEST} was changed after it was written")
    if about["format"] != FORMAT:
        raise CheckpointError(f"it has format {about['format']} and this version reads format {FORMAT}")
    if path.name != f"step_{about['step']}":
        raise CheckpointError(f"it says it is step {about['step']}")
    return about


def _verify_files(path: Path, about: Mapping[str, Any]) -> None:
    for name, expected in about["files"].items():
        file = path / name
        try:
            size = file.stat().st_size
            if size != expected["size"]:
                raise CheckpointError(f"{name} has {size} bytes in place of {expected['size']}")
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{name} is missing or unreadable ({type(error).__name__})") from error
        if digest != expected["sha256"]:
            raise CheckpointError(f"{name} was changed after it was written (its sha256 differs)")


def _check_identity(path: Path, about: Mapping[str, Any], identity: Identity) -> None:
    mine = _description(about["step"], identity, {})
    changed = differences(about["config"], dict(identity.config), place="config")
    for key, noun in (("tokenizer_hash", "tokenizer"), ("data_fingerprint", "data")):
        if about[key] != mine[key]:
            changed.append(f"{noun}: {about[key][:12]} → {mine[key][:12]}")
    if changed:
        raise CheckpointError(
            f"{path} belongs to another run ({'; '.join(changed)}); resume with what it was saved with, or use a new "
            "folder"
        )


def _oddities(path: Path, about: Mapping[str, Any]) -> Iterator[str]:
    if extra := sorted({entry.name for entry in path.iterdir()} - {*about["files"], MANIFEST}):
        yield f"{path} holds files that its manifest does not name, ignored: {', '.join(extra)}"
    if about["code_version"] != _code_version():
        versions = f"version {about['code_version']}, this is {_code_version()}"
        yield f"{path} was saved by {versions}; the bits may differ from those of an undisturbed run"


# -------------------------------------------------------------------------------------------------------- receiving


def state_of(parts: Mapping[str, HasState]) -> dict[str, Mapping[str, Any]]:
    """The states of everything a loop was given, by name."""
    return {name: part.state() for name, part in parts.items()}


def restore(loaded: Loaded, parts: Mapping[str, HasState]) -> None:
    """Give each part its state; the checkpoint must hold exactly these parts, or nothing is changed."""
    check_keys(f"the checkpoint {loaded.path}", set(loaded.state), set(parts))
    for name, part in parts.items():
        part.load_state(loaded.state[name])
