"""A loop's configuration → a trained model in a run folder. One function a loop; what they share is above them."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch

from whet.advantages import advantage
from whet.batch import TokenBatch, Tree
from whet.build import data, models, terms
from whet.build.check import check
from whet.build.rewards import build_rewards
from whet.data.intake import Report
from whet.data.order import Cursor
from whet.data.splits import Overlap
from whet.files import write_folder_atomically
from whet.losses import offline_loss, reward_loss, step_loss
from whet.losses.terms import Term
from whet.losses.tokens import looks_at_another
from whet.models.io import add_value_head, save
from whet.models.policy import Decoder
from whet.plain import json_hash
from whet.registry import Choice
from whet.rollout.torch_engine import engine_of
from whet.rundir import RunDir
from whet.train.checkpoint import HasState, Identity
from whet.train.config import LoopConfig, OfflineConfig, OnlineConfig, PassConfig, RewardModelConfig, SupervisedConfig
from whet.train.heldout import measure
from whet.train.interrupts import Interrupts
from whet.train.learner import Learner
from whet.train.offline import offline
from whet.train.online import online
from whet.train.record import held_out_numbers, rollout_rows
from whet.train.reference import OfflineReference
from whet.train.reward_model import reward_model
from whet.train.scores import HELD_OUT, Journaled
from whet.train.session import Session, Watcher
from whet.train.source import PolicySource, sample_groups
from whet.train.supervised import supervised
from whet.train.trackers import trackers
from whet.types import Group

Evaluate = Callable[[int], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A loop ready to run inside its session, and what is done when it has: the caller calls both, so that a traceback
    stays short."""

    work: Callable[[], None]
    finish: Callable[[], dict[str, Any]]
    session: AbstractContextManager[Any] = field(default_factory=nullcontext)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a loop runs, and who watches."""

    run: RunDir
    watchers: Sequence[Watcher]
    interrupts: Interrupts
    objects: Mapping[str, Any]

    def note(self, found: Report | Overlap) -> None:
        """What became of a dataset's rows, and an alarm for prompts that are also held out, as events of the run."""
        if isinstance(found, Overlap):
            self.run.event("warning", text=f"{found}; held-out numbers will look better than they are")
        else:
            self.run.event("data", lines=found.lines())


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
    learned, held = _trees(config, policy, place, offline_loss.shelves)
    pace = _pace(config, len(learned))
    learner = Learner.of(policy, found, config.optim, total=pace["steps"], seed=config.seed)
    measured = -(-pace["steps"] // config.eval.every) if config.eval.every else 1
    reference = None
    if looks:
        reference = OfflineReference(
            model=models.reference(config.reference, config.model, policy, seed=config.seed),
            budget=config.token_budget,
            mode=config.reference_cache,
            own=place.run.path / "reference",
            held=[(tree, measured) for tree in held[: config.eval.rows]],
            watched=any(map(looks_at_another, learner.needs)),
            note=place.run.event,
            files=place.run.files,
        )
    evaluate = _held_out(config, policy, found, held, reference=reference)
    session = _session(config, place, {"policy": learner}, evaluate, learned)
    work = partial(offline, session, learner, learned, reference=reference, **pace)
    return Job(session=session, work=work, finish=partial(_finished, place, policy))


def _online(config: OnlineConfig, place: Place) -> Job:
    policy = models.policy(config.model, seed=config.seed)
    learners, critic = _actors(config, policy)
    start = policy if config.kl.coef else None
    reference = models.reference(config.reference, config.model, policy, seed=config.seed) if start else None
    learned, held = data.tasks(config.data, policy, place.objects, place.note, held=config.eval.data)
    engine, renderer = engine_of(policy, config.sampling, max_length=config.data.max_length)
    asked = config.eval.data or config.data
    examiner, _ = engine_of(policy, config.sampling, max_length=asked.max_length)
    reward = build_rewards(config.rewards, place.objects, seed=config.seed, budget=config.token_budget, policy=policy)
    reward.check(learned)
    reward.check(held)
    source = PolicySource(
        tasks=learned,
        render=renderer.prompt,
        engine=engine,
        reward=lambda step: Journaled(reward=replace(reward, needed=True), journal=place.run.journal, step=step),
        prompts=config.prompts,
        group=config.group,
        seed=config.seed,
        overlap=config.overlap,
    )

    def evaluate(step: int) -> dict[str, float]:
        chosen = [(task, 0) for task in held[: config.eval.rows]]
        judge = Journaled(reward=reward, journal=place.run.journal, step=step, kind=HELD_OUT)
        noise = {"seed": config.seed, "step": 0, "stream": "eval"}
        groups = sample_groups(examiner, renderer.prompt, judge, chosen, n=1, overlap=config.overlap, **noise)
        return held_out_numbers(groups)

    def record(step: int, groups: Sequence[Group], batch: TokenBatch) -> list[dict[str, Any]]:
        name, stage = place.run.path.parent.parent.name, place.run.path.name
        return rollout_rows(groups, batch, step=step, run=name, stage=stage, decode=_decode(policy))

    parts: dict[str, HasState] = {**learners, "source": source}
    session = _session(config, place, parts, evaluate if held else None, learned)
    work = partial(
        online,
        session,
        learners,
        source,
        config=config,
        advantage=advantage.bind(config.advantage.name, **config.advantage.options),
        kl_cost=terms.kl_cost(config),
        reference=reference,
        critic=critic,
        record=record,
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


def _decode(decoder: Decoder) -> Callable[[tuple[int, ...]], str]:
    return lambda ids: decoder.tokenizer.decode(list(ids), skip_special_tokens=False)


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
