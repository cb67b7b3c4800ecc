"""Trains the embedded base model: `python -m whet.lab.train_base --out DIR`.

One thread, one seed, a plain loop: documents are conversations of all worlds whose answers range from careless to
perfect, so that the model knows what good and bad answers look like and everything after it has head-room.
Left out on purpose: checkpoints, resuming, evaluation while training.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from whet.lab.data import stream
from whet.lab.measure import head_room
from whet.lab.tokenizer import BOS, CONTEXT, END_OF_TURN, EOS, PAD, build_tokenizer
from whet.lab.worlds import WORLDS
from whet.types import Task

SHARES = {"chat": 0.38, "safe": 0.17, "math": 0.22, "think": 0.05, "count": 0.18}
RATE = "<user>Rate the answer.<end><assistant>"
PROMPT_WEIGHT = 0.1
"""Weight of a prompt's tokens in the loss: prompts are random draws, there is little in them to learn."""
VOTE_WEIGHT = 3.0
"""Weight of a reader's vote: one token that takes the whole answer to predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the training run does; `python -m whet.lab.train_base --help` lists the same names."""

    steps: int = 3500
    documents: int = 128
    lr: float = 3e-3
    warmup: int = 100
    seed: int = 0


def base_config() -> LlamaConfig:
    """The embedded model's shape: 0.38M parameters, three heads of width 32."""
    return LlamaConfig(
        vocab_size=512,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def conversation(turns: list[tuple[Task, str]], *, system: bool) -> list[tuple[str, float]]:
    """The chat template's text in pieces, each with its weight in the loss."""
    told = [(BOS + ("<system>You are a helpful assistant.<end>" if system else ""), PROMPT_WEIGHT)]
    for task, answer in turns:
        told += [(f"<user>{task.prompt_text}<end><assistant>", PROMPT_WEIGHT), (f"{answer}{END_OF_TURN}", 1.0)]
    return told


def vote(task: Task, answer: str, rng: Random) -> str:
    """What a reader thinks of an answer, out of ten: 1 + 9 × helpfulness, a point of noise."""
    helpful = WORLDS[task.meta["world"]].aspects(task, answer)["helpfulness"]
    return f"{min(10, max(1, round(1 + 9 * helpful + rng.gauss(0, 1))))}/10"


def ending(task: Task, answer: str, rng: Random) -> list[tuple[str, float]]:
    """How a document ends: with a reader's vote, with the assistant asked for one, or just so."""
    kind = rng.choices(("vote", "asked", "plain"), weights=(7, 1, 2))[0]
    if kind == "vote":
        return [(vote(task, answer, rng), VOTE_WEIGHT), (EOS, 1.0)]
    if kind == "asked":
        return [(RATE, PROMPT_WEIGHT), (vote(task, answer, rng), VOTE_WEIGHT), (END_OF_TURN + EOS, 1.0)]
    return [(EOS, 1.0)]


def documents(seed: int) -> Iterator[list[tuple[str, float]]]:
    """Endless conversations: mostly one turn of one world, one in ten with two to four turns; most end with a vote."""
    rng = Random(f"base/{seed}")
    streams = {name: stream(name, "train", seed) for name in SHARES}
    names, shares = list(SHARES), list(SHARES.values())
    while True:
        count = rng.randint(2, 4) if rng.random() < 0.1 else 1
        asked = [next(streams[name]) for name in rng.choices(names, weights=shares, k=count)]
        turns = [(task, WORLDS[task.meta["world"]].write(task, rng, rng.random())) for task in asked]
        yield conversation(turns, system=rng.random() < 0.1) + ending(*turns[-1], rng)


def encode(document: list[tuple[str, float]], tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[float]]:
    """Token ids and, for each, its weight in the loss."""
    ids, weights = [], []
    for text, weight in document:
        new = tokenizer.backend_tokenizer.encode(text).ids
        ids += new
        weights += [weight] * len(new)
    return ids, weights


def padded(rows: list[tuple[list[int], list[float]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and weights; padding weighs 0."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in rows])
    weights = torch.tensor([row + [0.0] * (width - len(row)) for _, row in rows])
    return ids, weights


def pieces_of_like_length(rows: list[tuple[list[int], list[float]]]) -> Iterator[list[tuple[list[int], list[float]]]]:
    """Rows sorted by length, cut wherever a row is a quarter longer than its piece's first: little is padding."""
    piece: list[tuple[list[int], list[float]]] = []
    for row in rows:
        if piece and len(row[0]) > 1.25 * len(piece[0][0]):
            yield piece
            piece = []
        piece.append(row)
    yield piece


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def train(settings: Settings) -> LlamaForCausalLM:
    """The trained model; prints the loss per counted token every 100 steps."""
    torch.manual_seed(settings.seed)
    model, tokenizer = LlamaForCausalLM(base_config()), build_tokenizer()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98))
    source, start, recent = documents(settings.seed), time.time(), 0.0
    for step in range(settings.steps):
        rows = sorted((encode(next(source), tokenizer) for _ in range(settings.documents)), key=lambda row: len(row[0]))
        total = sum(sum(weights[1:]) for _, weights in rows)
        for piece in pieces_of_like_length(rows):
            ids, weights = padded(piece)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
            losses = cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
            loss = (losses * weights[:, 1:].flatten()).sum() / total
            loss.backward()
            recent += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            print(f"step {step + 1}  loss {recent / 100:.4f}  {time.time() - start:.0f} s", flush=True)
            recent = 0.0
    return model


def save(model: LlamaForCausalLM, out: Path) -> None:
    """Model, tokenizer, chat template and generation config as one ordinary Hugging Face folder."""
    tokenizer = build_tokenizer()
    stops = [tokenizer.convert_tokens_to_ids(END_OF_TURN), tokenizer.convert_tokens_to_ids(EOS)]
    pad, begin = tokenizer.convert_tokens_to_ids(PAD), tokenizer.convert_tokens_to_ids(BOS)
    model.generation_config = GenerationConfig(
        eos_token_id=stops, pad_token_id=pad, bos_token_id=begin, do_sample=True, top_k=0, max_new_tokens=48
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    for name, value in {name: getattr(Settings(), name) for name in Settings.__slots__}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    told = vars(parser.parse_args())
    out: Path = told.pop("out")
    torch.set_num_threads(1)
    settings, start = Settings(**told), time.time()
    model = train(settings)
    save(model, out)
    took = round(time.time() - start)
    record = {
        "command": f"python -m whet.lab.train_base --out DIR --steps {settings.steps} --seed {settings.seed}",
        "settings": told,
        "shares": SHARES,
        "parameters": model.num_parameters(),
        "seconds": took,
        "head_room": {name: head_room(model, build_tokenizer(), name) for name in SHARES},
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
