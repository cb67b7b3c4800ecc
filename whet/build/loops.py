"""A loop's configuration → a trained model in a run folder. One function a loop; what they share is above them."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch

from whet.advantages import advantage
from whet.batch import TokenBatch, Tree
from whet.build import data, models, sources, terms
from whet.build.check import check
from whet.build.place import Place
from whet.build.sources import Evaluate
from whet.data.order import Cursor
from whet.files import write_folder_atomically
from whet.losses import offline_loss, reward_loss, step_loss
from whet.losses.terms import Term
from whet.losses.tokens import looks_at_another
from whet.models.io import add_value_head, save
from whet.models.policy import Decoder
from whet.plain import json_hash
from whet.registry import Choice
from whet.rundir import RunDir
from whet.train.checkpoint import HasState, Identity
from whet.train.config import LoopConfig, OfflineConfig, OnlineConfig, PassConfig, RewardModelConfig, SupervisedConfig
from whet.train.heldout import measure
from whet.train.interrupts import Interrupts
from whet.train.learner import Learner
from whet.train.moving import MovingReference
from whet.train.offline import offline
from whet.train.online import online
from whet.train.reference import OfflineReference
from whet.train.reward_model import reward_model
from whet.train.session import Session, Watcher
from whet.train.step import Reference
from whet.train.supervised import supervised
from whet.train.trackers import trackers
from whet.train.trees import Dataset, TreeSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A loop ready to run inside its session, and what is done when it has: the caller calls both, so that a traceback
    stays short."""

    work: Callable[[], None]
    finish: Callable[[], dict[str, Any]]
    session: AbstractContextManager[Any] = field(default_factory=nullcontext)


def threads() -> int:
    """How many threads torch computes with."""
    return torch.get_num_threads()


def quiet_libraries() -> None:
    """Libraries speak through our own messages: no progress bars, no advice meant for their own trainers."""
    from transformers.utils import logging as hf

    hf.set_verbosity_error()
    hf.disable_progress_bar()
    logging.getLogger("whet").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module=r"transformers\..*")


def prepare(
    config: LoopConfig,
    run: RunDir,
    *,
    watchers: Iterable[Watcher] = (),
    interrupts: Interrupts | None = None,
    objects: Mapping[str, Any] | None = None,
) -> Job:
    """The loop of a configuration, ready to run in its folder; `finish` returns what it made: files and numbers."""
    check(config, objects or {})
    place = Place(
        run=run,
        watchers=[*watchers, *trackers(config.track, run.path)],
        interrupts=interrupts or Interrupts(),
        objects=objects or {},
    )
    return LOOPS[type(config)](config, place)


def _supervised(config: SupervisedConfig, place: Place) -> Job:
    policy = models.policy(config.model, seed=config.seed)
    learned, held = data.both(
        config.data, policy, place.objects, place.note, data.dataset.demonstrations, held=config.eval.data
    )
    term = terms.likelihood(config.weigh)
    pace = _pace(config, len(learned))
    learner = Learner.of(policy, [term], config.optim, total=pace["steps"], seed=config.seed)
    evaluate = _held_out(config, policy, [term], data.example_trees(held))
    session = _session(config, place, {"policy": learner}, evaluate, learned)
    work = partial(supervised, session, learner, learned, **pace)
    return Job(session=session, work=work, finish=partial(_finished, place, policy))


def _reward_model(config: RewardModelConfig, place: Place) -> Job:
    found, _ = terms.loss_terms(config.loss, (reward_loss, step_loss))
    scorer = models.scorer(config.model, seed=config.seed)
    learned, held = _trees(config, scorer, place, (reward_loss, step_loss))
    pace = _pace(config, len(learned))
    learner = Learner.of(scorer, found, config.optim, total=pace["steps"], seed=config.seed)
    evaluate = _held_out(config, scorer, found, held)
    session = _session(config, place, {"reward": learner}, evaluate, learned)
    work = partial(reward_model, session, learner, learned, **pace)
    return Job(session=session, work=work, finish=partial(_finished, place, scorer))


def _offline(config: OfflineConfig, place: Place) -> Job:
    found, looks = terms.offline_terms(config, offline_loss.shelves)
    policy = models.policy(config.model, seed=config.seed)
    if any("value" in term.needs for term in found):
        add_value_head(policy, config.seed)
    other = config.source is not None and config.source.opponents is not None
    start = None
    if looks or other:
        start = models.reference(config.reference, config.model, policy, seed=config.seed)
    given = _dataset if config.source is None else _answers
    fed = given(config, policy, place, found, start=start, looks=looks)
    learner = Learner.of(policy, found, config.optim, total=fed.steps, seed=config.seed)
    parts: dict[str, HasState] = {"policy": learner, **fed.parts}
    moving = None
    if config.reference_update is not None and start is not None:
        every, mix = config.reference_update.every, config.reference_update.mix
        parts["reference"] = moving = MovingReference(start.model, policy, every=every, mix=mix)
    session = _session(config, place, parts, fed.evaluate, fed.items)
    work = partial(
        offline,
        session,
        learner,
        fed.source,
        reference=fed.reference,
        moving=moving,
        steps=fed.steps,
        budget=config.token_budget,
        skip_dead=config.skip_dead,
    )
    return Job(session=session, work=work, finish=partial(_finished, place, policy))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """What the offline loop learns from, for how long, and how it is measured."""

    source: TreeSource
    steps: int
    items: Sequence[Any]
    evaluate: Evaluate | None
    reference: OfflineReference | None
    parts: Mapping[str, HasState] = field(default_factory=dict[str, HasState])


def _dataset(
    config: OfflineConfig, policy: Decoder, place: Place, found: Sequence[Term], *, start: Reference | None, looks: bool
) -> Fed:
    """The pairs, labels or rankings of a dataset."""
    learned, held = _trees(config, policy, place, offline_loss.shelves)
    pace = _pace(config, len(learned))
    reference = None
    if start is not None:
        measured = -(-pace["steps"] // config.eval.every) if config.eval.every else 1
        reference = OfflineReference(
            model=start,
            budget=config.token_budget,
            mode=config.reference_cache if config.reference_update is None else "off",
            own=place.run.path / "reference",
            held=[(tree, measured) for tree in held[: config.eval.rows]],
            watched=_watched(found),
            note=place.run.event,
            files=place.run.files,
        )
    return Fed(
        source=Dataset(trees=learned, cursor=pace["cursor"]),
        steps=pace["steps"],
        items=learned,
        evaluate=_held_out(config, policy, found, held, reference=reference),
        reference=reference,
    )


def _answers(
    config: OfflineConfig, policy: Decoder, place: Place, found: Sequence[Term], *, start: Reference | None, looks: bool
) -> Fed:
    """The policy's own answers; what a reference says of them is asked in the step that has them."""
    assert config.source is not None and config.steps is not None, "the configuration was checked"
    made, asked = sources.answers(config, config.source, policy, start, place)
    reference = None
    if looks and start is not None:
        reference = OfflineReference(model=start, budget=config.token_budget, watched=_watched(found))
    return Fed(
        source=made,
        steps=config.steps,
        items=asked.tasks,
        evaluate=asked.evaluate,
        reference=reference,
        parts={"source": asked.source},
    )


def _watched(found: Sequence[Term]) -> bool:
    """Whether a term looks at the reference itself, not at its log-probabilities alone."""
    return any(looks_at_another(need) for term in found for need in term.needs)


def _online(config: OnlineConfig, place: Place) -> Job:
    policy = models.policy(config.model, seed=config.seed)
    learners, critic = _actors(config, policy)
    reference = None
    if config.kl.coef:
        reference = models.reference(config.reference, config.model, policy, seed=config.seed)
    asked = sources.asking(config, config, policy, reference, place)
    parts: dict[str, HasState] = {**learners, "source": asked.source}
    session = _session(config, place, parts, asked.evaluate, asked.tasks)
    work = partial(
        online,
        session,
        learners,
        asked.source,
        config=config,
        advantage=advantage.bind(config.advantage.name, **config.advantage.options),
        kl_cost=terms.kl_cost(config),
        reference=reference,
        critic=critic,
        record=sources.recorder(place, policy),
    )
    return Job(session=session, work=work, finish=partial(_finished, place, policy))


def _actors(config: OnlineConfig, policy: Decoder) -> tuple[dict[str, Learner], Decoder | None]:
    """The learners of the online loop, and the model that values (the critic's own trunk, or the policy)."""
    mine, critics = terms.online_terms(config)
    each = config.updates * config.minibatches
    if config.critic is None:
        return {"policy": Learner.of(policy, mine, config.optim, total=config.steps * each, seed=config.seed)}, None
    if config.critic.trunk == "shared":
        add_value_head(policy, config.seed)
        return {"policy": Learner.of(policy, mine, config.optim, total=config.steps * each, seed=config.seed)}, policy
    critic = models.critic(config.critic.model, config.model, policy, seed=config.seed)
    moves = (config.steps - config.critic.warmup) * each  # while the critic warms up the policy rests
    learners = {
        "policy": Learner.of(policy, mine, config.optim, total=moves, seed=config.seed),
        "critic": Learner.of(
            critic, critics, config.critic.optim or config.optim, total=config.steps * each, seed=config.seed
        ),
    }
    return learners, critic


class Pace(TypedDict):
    """What every loop over a dataset is told of its steps."""

    cursor: Cursor
    steps: int
    budget: int
    skip_dead: bool


def _pace(config: PassConfig, n: int) -> Pace:
    cursor = Cursor(n=n, batch=min(config.batch, n), seed=config.seed)
    steps = config.steps or cursor.steps_in(config.epochs)
    return Pace(cursor=cursor, steps=steps, budget=config.token_budget, skip_dead=config.skip_dead)


def _trees(
    config: PassConfig, decoder: Decoder, place: Place, shelves: tuple[Any, ...]
) -> tuple[list[Tree], list[Tree]]:
    loss: Choice = config.loss  # pyright: ignore[reportAttributeAccessIssue]
    shelf = next(s for s in shelves if loss.name in s.names())
    more = [plus.loss for plus in config.plus] if isinstance(config, OfflineConfig) else []
    reads = terms.reads([loss, *more], shelves)
    return data.trees(
        config.data, decoder, place.objects, place.note, kind=shelf.kind, reads=reads, held=config.eval.data
    )


def _held_out(
    config: LoopConfig,
    model: Decoder,
    found: Sequence[Term],
    held: Sequence[Tree],
    *,
    reference: OfflineReference | None = None,
) -> Evaluate | None:
    """The same numbers as in training on held-out rows, or None where nothing is held out."""
    rows = list(held)[: config.eval.rows]

    def annotate(batch: TokenBatch) -> TokenBatch:
        return batch if reference is None else reference.annotate(batch, rows)

    def evaluate(step: int) -> dict[str, float]:
        other = reference.other if reference else None
        return measure(model, found, rows, budget=config.token_budget, annotate=annotate, other=other)

    return evaluate if rows else None


def _session(
    config: LoopConfig, place: Place, parts: Mapping[str, HasState], evaluate: Evaluate | None, learned: Sequence[Any]
) -> Session:
    shaping = config.model_dump(mode="json", exclude={"checkpoint", "track"})
    return Session(
        place.run,
        parts=parts,
        identity=Identity(
            config=shaping,
            tokenizer_hash=_tokenizer_hash(parts),
            data_fingerprint=data_fingerprint(learned),
        ),
        checkpoint=config.checkpoint,
        evaluation=config.eval,
        evaluate=evaluate,
        watchers=place.watchers,
        interrupts=place.interrupts,
    )


def data_fingerprint(items: Iterable[Any]) -> str:
    """sha256 of every item in order: another row anywhere is another dataset."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item}\n".encode(errors="backslashreplace"))
    return digest.hexdigest()


def _tokenizer_hash(parts: Mapping[str, HasState]) -> str:
    learner = next(part for part in parts.values() if isinstance(part, Learner))
    tokenizer = learner.model.tokenizer
    return json_hash([tokenizer.backend_tokenizer.to_str(), str(getattr(tokenizer, "chat_template", None))])


def _finished(place: Place, decoder: Decoder) -> dict[str, Any]:
    """Save the final folder without optimizer, and say what the stage made."""

    def write(folder: Path) -> None:
        save(decoder, folder)

    if not place.run.final.exists():  # a run that was killed after writing it has it whole
        write_folder_atomically(place.run.final, write, files=place.run.files)
    last = list(place.run.rows("evals"))[-1:]
    numbers = {k.removeprefix("eval/"): v for row in last for k, v in row.items() if k.startswith("eval/")}
    return {"files": {"model": "final"}, "numbers": numbers}


LOOPS: Mapping[type[LoopConfig], Callable[[Any, Place], Job]] = {
    SupervisedConfig: _supervised,
    RewardModelConfig: _reward_model,
    OfflineConfig: _offline,
    OnlineConfig: _online,
}
