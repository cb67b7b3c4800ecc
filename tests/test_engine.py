"""What is drawn is a function of the request alone, and its log-probabilities are the training forward's."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from engine_models import FAMILIES, ask, asks, tiny
from pydantic import ValidationError

from whet.batch import Tree, pack
from whet.errors import DataError, ModelError, NumericsError
from whet.models.policy import Decoder
from whet.rollout.config import SamplingConfig
from whet.rollout.torch_engine import TorchEngine
from whet.types import Completion, Engine, Request, Rollout

STOPS = (2, 7, 9)


def engine(decoder: Decoder, *, stops: tuple[int, ...] = STOPS, **sampling: Any) -> TorchEngine:
    return TorchEngine(decoder, SamplingConfig.model_validate({"max_new_tokens": 20, **sampling}), stops)


def trained(
    decoder: Decoder, requests: list[Request], drawn: list[list[Completion]], temperature: float
) -> torch.Tensor:
    """The training forward's log-probabilities of everything drawn, in order."""
    trees = [
        Tree(
            rollouts=[
                Rollout(
                    task_id="t",
                    tokens=request.prompt + c.tokens,
                    mask=(False,) * len(request.prompt) + (True,) * len(c.tokens),
                    source=("prompt",) * len(request.prompt) + ("sampled",) * len(c.tokens),
                )
                for c in group
            ]
        )
        for request, group in zip(requests, drawn, strict=True)
    ]
    with torch.no_grad():
        return decoder(pack(trees), frozenset({"logprobs"}), temperature=temperature).token["logprobs"]


def flat(drawn: list[list[Completion]], name: str) -> list[float]:
    return [value for group in drawn for c in group for value in getattr(c, name)]


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_the_training_forward(family: str) -> None:
    decoder = tiny(family)
    assert decoder.layout == "forest"
    requests = asks(9)
    for temperature in (1.0, 0.6):
        drawn = engine(decoder, slots=7, temperature=temperature).sample(requests)
        ours = torch.tensor(flat(drawn, "logprobs"))
        assert torch.allclose(ours, trained(decoder, requests, drawn, temperature), atol=1e-5, rtol=0)
        assert set(flat(drawn, "log_mass")) == {0.0}
    assert sum(len(c.tokens) for group in drawn for c in group) > 100


@pytest.mark.parametrize(
    "family, options",
    [
        ("llama", {}),
        ("llama", {"top_p": 0.8}),
        ("gemma2", {"min_p": 0.05}),
        ("mistral", {"temperature": 0.6}),
        ("gpt2", {"top_k": 5, "temperature": 1.4}),
    ],
)
def test_slots_order_and_neighbours_change_no_token(family: str, options: dict[str, Any]) -> None:
    decoder, requests = tiny(family), asks(6, n=2)
    want = engine(decoder, **options).sample(requests)
    order = list(range(6))
    random.Random(0).shuffle(order)
    for slots in (1, 9):
        shuffled = engine(decoder, slots=slots, **options).sample([requests[i] for i in order])
        back = [shuffled[order.index(i)] for i in range(6)]
        assert [[c.tokens for c in group] for group in back] == [[c.tokens for c in group] for group in want]
        for name in ("logprobs", "log_mass"):
            assert flat(back, name) == pytest.approx(flat(want, name), abs=1e-5)
    alone = engine(decoder, **options).sample([requests[5]])[0]
    assert [c.tokens for c in alone] == [c.tokens for c in want[5]]


def test_fewer_draws_are_the_first_ones() -> None:
    decoder = tiny()
    request = ask((3, 4), "t", n=6)
    six = engine(decoder).sample([request])[0]
    two = engine(decoder).sample([replace(request, n=2)])[0]
    assert [c.tokens for c in two] == [c.tokens for c in six[:2]]
    assert len({c.tokens for c in six}) == 6
    other = engine(decoder).sample([replace(request, key=replace(request.key, step=1))])[0]
    assert [c.tokens for c in other] != [c.tokens for c in six]


def test_the_padded_fallback_draws_the_same() -> None:
    forest, padded = tiny(), tiny(layout="padded")
    assert padded.layout == "padded"
    requests = asks(4)
    ours, theirs = engine(forest).sample(requests), engine(padded, slots=5).sample(requests)
    assert [[c.tokens for c in g] for g in ours] == [[c.tokens for c in g] for g in theirs]
    assert flat(ours, "logprobs") == pytest.approx(flat(theirs, "logprobs"), abs=1e-5)


def test_each_prompt_goes_through_the_model_once() -> None:
    decoder, requests = tiny(), asks(10, n=4)
    sampler = engine(decoder, slots=3)
    drawn = sampler.sample(requests)
    stats = sampler.last
    assert stats.prompt_tokens == sum(len(r.prompt) for r in requests)
    assert stats.sampled_tokens == sum(len(c.tokens) for group in drawn for c in group)
    # the last token of a response is never fed
    assert stats.decode_tokens == stats.sampled_tokens - 40
    assert stats.tokens_through_model == stats.prompt_tokens + stats.decode_tokens + stats.idle_rows


def test_ended_responses_give_their_slots_away() -> None:
    sampler = engine(tiny(), slots=16)
    sampler.sample(asks(40, n=4))
    assert sampler.last.idle_rows < 0.15 * sampler.last.decode_tokens


def test_no_forward_has_fewer_than_eight_rows() -> None:
    decoder, rows = tiny(), []
    decoder.hf.model.layers[0].mlp.register_forward_hook(lambda module, given, out: rows.append(given[0].shape[1]))
    sampler = engine(decoder, slots=3)
    sampler.sample([ask((3,), "t", n=5)])
    assert len(rows) == sampler.last.steps + sampler.last.prefills
    assert set(rows) == {8}


def test_greedy_is_the_likeliest_token_of_the_stock_model() -> None:
    decoder, stock = tiny(), tiny(layout="padded")
    request = ask((3, 4, 5), "t")
    drawn = engine(decoder, stops=(), greedy=True).sample([request])[0][0]
    with torch.no_grad():
        logits = stock.hf(input_ids=torch.tensor([request.prompt + drawn.tokens])).logits[0]
    assert tuple(logits[2:-1].argmax(dim=1).tolist()) == drawn.tokens
    assert drawn.log_mass == drawn.logprobs
    assert drawn.stopped == "length"


def test_stops_at_any_stop_token_and_keeps_it() -> None:
    drawn = [c for group in engine(tiny(), max_new_tokens=40).sample(asks(20)) for c in group]
    stopped = [c for c in drawn if c.stopped == "stop"]
    assert {c.tokens[-1] for c in stopped} == set(STOPS)
    assert all(not set(c.tokens[:-1]) & set(STOPS) for c in drawn)
    assert all(len(c.tokens) == 40 for c in drawn if c.stopped == "length")


def test_the_context_ends_a_response_and_refuses_a_prompt() -> None:
    decoder = tiny()
    sampler = engine(decoder, stops=(), max_new_tokens=10)
    close, fits = sampler.sample([ask((3,) * 60, "close"), ask((3,) * 54, "fits")])
    assert (close[0].stopped, len(close[0].tokens)) == ("overflow", 4)
    assert (fits[0].stopped, len(fits[0].tokens)) == ("length", 10)
    with pytest.raises(DataError, match=r"task 'long' has 64 tokens and the model's context is 64"):
        sampler.sample([ask((3,) * 64, "long")])


def test_rows_without_a_token_are_never_drawn() -> None:
    decoder, requests = tiny(), asks(8)
    sampler = TorchEngine(decoder, SamplingConfig(max_new_tokens=30), (), vocabulary=11)
    drawn = sampler.sample(requests)
    assert {t for group in drawn for c in group for t in c.tokens} == set(range(11))
    assert torch.allclose(torch.tensor(flat(drawn, "logprobs")), trained(decoder, requests, drawn, 1.0), atol=1e-5)
    assert max(flat(drawn, "log_mass")) < -0.01
    with pytest.raises(ModelError, match="62 tokens and the model has 61 embedding rows"):
        TorchEngine(decoder, SamplingConfig(), (), vocabulary=62)


@pytest.mark.parametrize("prompt, said", [((), "has no tokens"), ((3, 61), "token 61"), ((-1, 3), "token -1")])
def test_prompts_that_cannot_be_are_refused(prompt: tuple[int, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        engine(tiny()).sample([ask((3,), "good"), ask(prompt, "bad")])


def test_logits_that_are_not_finite_end_the_run() -> None:
    decoder = tiny()
    with torch.no_grad():
        decoder.hf.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NumericsError, match="weights have diverged"):
        engine(decoder).sample(asks(1))


def test_it_samples_the_weights_as_they_are_now() -> None:
    decoder, requests = tiny(), asks(3)
    sampler = engine(decoder)
    before = sampler.sample(requests)
    with torch.no_grad():
        decoder.hf.lm_head.weight.mul_(0.2)
    after = sampler.sample(requests)
    assert flat(before, "tokens") != flat(after, "tokens")
    assert torch.allclose(torch.tensor(flat(after, "logprobs")), trained(decoder, requests, after, 1.0), atol=1e-5)


def test_a_stream_leaves_gradient_and_training_mode_alone() -> None:
    decoder = tiny("gpt2")
    decoder.hf.train()
    training = [module for module in decoder.modules() if module.training]
    sampler = engine(decoder)
    seen = []
    for request, index, completion in sampler.stream(asks(6)):
        assert torch.is_grad_enabled()
        assert [module for module in decoder.modules() if module.training] == training
        seen.append((request, index, completion.tokens))
    drawn = engine(tiny("gpt2")).sample(asks(6))
    assert sorted(seen) == [(r, i, c.tokens) for r, group in enumerate(drawn) for i, c in enumerate(group)]


def test_half_precision_draws_from_what_it_trains() -> None:
    decoder, requests = tiny(dtype=torch.bfloat16), asks(6)
    drawn = engine(decoder).sample(requests)
    gap = torch.tensor(flat(drawn, "logprobs")) - trained(decoder, requests, drawn, 1.0)
    assert gap.abs().mean() < 0.05


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_p": 0.0}, {"stop": ("",)}, {"max_tokens": 5}], ids=str)
def test_what_cannot_be_sampled_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SamplingConfig.model_validate(wrong)


def test_nothing_asked_nothing_drawn() -> None:
    assert engine(tiny()).sample([]) == []
    assert engine(tiny()).sample([ask((3,), "t", n=0)]) == [[]]
    assert isinstance(engine(tiny()), Engine)


def test_choose_is_the_softmax_of_the_options_log_probabilities() -> None:
    decoder = tiny()
    options = ((4,), (5, 6), (7,))
    got = engine(decoder).choose((3, 8, 1), options)
    fake = [[Completion(tokens=o, logprobs=(0.0,), log_mass=(0.0,), text="", stopped="stop") for o in options]]
    each = trained(decoder, [ask((3, 8, 1), "t")], fake, 1.0)
    want = torch.stack((each[0], each[1] + each[2], each[3])).softmax(0)
    assert got == pytest.approx(want.tolist(), abs=1e-6)
    assert sum(got) == pytest.approx(1.0)
