"""The optimizer: fused equals plain, narrow states learn as wide ones do, and a checkpoint keeps all of it."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from states import IDENTITY, same
from torch import Tensor, nn

from whet.errors import CheckpointError, ConfigError
from whet.train import optim
from whet.train.checkpoint import load_latest, save
from whet.train.config import OptimConfig
from whet.train.optim import AdamW
from whet.train.optim_bits import BLOCK, decode, encode, join, lane, rounded, split, words
from whet.train.ranks import Ranks
from whet.train.receive import load_optimizer, load_tensors

CPU = torch.device("cpu")
SHAPES = {"matrix": (65, 70), "norm": (70,)}
OPTIONS = list(itertools.product(("float32", "bfloat16", "8bit"), ("master", "stochastic")))


def parameters(dtype: torch.dtype = torch.float32, scale: float = 0.02) -> dict[str, nn.Parameter]:
    made = torch.Generator().manual_seed(0)
    drawn = {name: scale * torch.randn(shape, generator=made, dtype=torch.float64) for name, shape in SHAPES.items()}
    return {name: nn.Parameter(value.to(torch.bfloat16).to(dtype)) for name, value in drawn.items()}


def slopes(step: int) -> dict[str, Tensor]:
    """Gradients with a part that stays: magnitudes over four decades."""
    made = torch.Generator().manual_seed(1)
    stays = {
        n: torch.randn(s, generator=made) * 10 ** -torch.empty(s).uniform_(0, 4, generator=made)
        for n, s in SHAPES.items()
    }
    made.manual_seed(2 + step)
    return {n: x * (1 + 0.5 * torch.randn(x.shape, generator=made)) for n, x in stays.items()}


def train(
    params: dict[str, nn.Parameter], made: torch.optim.Optimizer, steps: int, start: int = 0
) -> dict[str, nn.Parameter]:
    for step in range(start, start + steps):
        for name, slope in slopes(step).items():
            params[name].grad = slope.to(params[name].grad_dtype or params[name].dtype)
        made.step()
    return params


def ours(params: dict[str, nn.Parameter], *, seed: int = 0, **options: Any) -> AdamW:
    return AdamW(params.items(), OptimConfig(**{"lr": 1e-2, "weight_decay": 0.1, **options}), seed=seed)


# ---------------------------------------------------------------------------------------------------- fused and plain


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-7), (torch.float64, 1e-15)])
def test_fused_and_plain_steps_are_those_of_pytorch(dtype: torch.dtype, near: float) -> None:
    theirs = parameters(dtype)
    groups = [{"params": [theirs["matrix"]]}, {"params": [theirs["norm"]], "weight_decay": 0.0}]
    train(theirs, torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1), 5)
    for fused in (False, True):
        mine = parameters(dtype)
        train(mine, ours(mine, fused=fused), 5)
        for name, value in theirs.items():
            assert (mine[name] - value).abs().max() <= (near if fused else 0.0), (name, fused)


def test_chunks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for moments, weights in OPTIONS[:2]:  # a scale is a block's, wherever a chunk ends
        whole, cut = parameters(torch.bfloat16), parameters(torch.bfloat16)
        train(whole, ours(whole, moments=moments, bfloat16_weights=weights, fused=False), 3)
        with monkeypatch.context() as patch:
            patch.setattr(optim, "CHUNK", {"cpu": BLOCK})
            train(cut, ours(cut, moments=moments, bfloat16_weights=weights, fused=False), 3)
        assert all(torch.equal(whole[name], cut[name]) for name in whole)


# ---------------------------------------------------------------------------------------------- bfloat16 weights learn


def projected(end: Tensor, reached: Tensor, start: Tensor) -> float:
    """How far `end` went in the direction of `reached`, as a share of its way."""
    way = (reached - start).double().flatten()
    return float((end - start).double().flatten() @ way / (way @ way))


def moved(made: Any, *, bits: bool = False, steps: int = 100) -> float:
    """A hundred steps at 1e-6: the way in the direction that float32 goes, of the weights held or of their bits."""
    start = parameters()["matrix"].detach().clone()
    wide, narrow = parameters(), parameters(torch.bfloat16)
    train(wide, ours(wide, lr=1e-6, weight_decay=0.0), steps)
    optimizer = made(narrow)
    train(narrow, optimizer, steps)
    held = narrow["matrix"].detach().float() if bits else optimizer.held(narrow["matrix"])
    return projected(held, wide["matrix"].detach(), start)


@pytest.mark.parametrize(("moments", "weights"), OPTIONS)
def test_small_updates_of_bfloat16_weights_are_not_lost(moments: str, weights: str) -> None:
    far = moved(lambda p: ours(p, lr=1e-6, weight_decay=0.0, moments=moments, bfloat16_weights=weights))
    assert 0.95 <= far <= 1.05


def test_plain_bfloat16_would_lose_them() -> None:
    """What the test above is for: PyTorch's own AdamW on bfloat16 parameters hardly moves."""

    def plain(params: dict[str, nn.Parameter]) -> torch.optim.AdamW:
        return torch.optim.AdamW(params.values(), lr=1e-6, weight_decay=0.0)

    assert moved(plain, bits=True) < 0.1


def test_the_master_of_bfloat16_weights_takes_the_steps_of_float32_exactly() -> None:
    wide, narrow = parameters(), parameters(torch.bfloat16)
    first, second = ours(wide, fused=False), ours(narrow, fused=False)
    train(wide, first, 5)
    train(narrow, second, 5)
    for name, value in wide.items():
        assert torch.equal(second.held(narrow[name]), value)
        assert (narrow[name].float() - value).abs().max() <= value.abs().max() * 2**-8


def test_gradients_of_bfloat16_weights_add_up_in_float32() -> None:
    weight = nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))
    AdamW([("weight", weight)], OptimConfig())
    for _ in range(300):  # bfloat16 would stop at 256
        weight.sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32 and weight.grad.eq(300).all()


def test_a_rank_without_a_gradient_takes_part_with_float32_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    made = parameters(torch.bfloat16)
    ours(made)
    seen: list[Tensor] = []
    monkeypatch.setattr("torch.distributed.all_reduce", seen.append)
    Ranks(rank=0, size=2).sum_gradients(list(made.values()))
    assert [x.dtype for x in seen] == [torch.float32] * 2 and not any(x.any() for x in seen)


# ------------------------------------------------------------------------------------------------------ narrow moments


@pytest.mark.parametrize(("moments", "near"), [("bfloat16", 0.1), ("8bit", 0.3)])
def test_narrow_moments_follow_the_wide_ones(moments: str, near: float) -> None:
    """The second moment forgets a gradient that became small; rounded to the nearest it would stay where it was."""
    made = {"matrix": nn.Parameter(torch.zeros(64, 64))}
    optimizer = ours(made, moments=moments, betas=(0.9, 0.999), lr=0.0)
    for step in range(500):
        made["matrix"].grad = torch.full((64, 64), 1.0 if step < 100 else 1e-2)
        made["matrix"].grad[0, 0] = 1.0  # the block's scale stays
        optimizer.step()
    state = optimizer.state[made["matrix"]]
    second = (
        state["exp_avg_sq"].float()
        if moments == "bfloat16"
        else decode(state["exp_avg_sq"].view(-1), state["exp_avg_sq_scale"])
    )
    truth = (1 - 0.999**100) * 0.999**400 + 1e-4 * (1 - 0.999**400)
    assert abs(float(second.view(-1)[1:].mean()) / truth - 1) <= near / 2
    assert float(second.view(-1)[1:].std()) / truth <= near


@pytest.mark.parametrize("moments", ["bfloat16", "8bit"])
def test_narrow_moments_learn_as_wide_ones_do(moments: str) -> None:
    start = parameters()["matrix"].detach()
    wide, narrow = parameters(), parameters()
    train(wide, ours(wide, lr=1e-4), 60)
    train(narrow, ours(narrow, lr=1e-4, moments=moments), 60)
    assert 0.97 <= projected(narrow["matrix"].detach(), wide["matrix"].detach(), start) <= 1.03
    gap = (narrow["matrix"] - wide["matrix"]).norm() / (wide["matrix"] - start).norm()
    assert gap < (0.02 if moments == "bfloat16" else 0.15)


def test_what_is_kept_takes_the_bytes_it_should() -> None:
    def per_weight(dtype: torch.dtype, **options: Any) -> float:
        made = {"matrix": nn.Parameter(torch.ones(256, 256, dtype=dtype))}
        optimizer = ours(made, **options)
        made["matrix"].grad = torch.ones(256, 256)
        optimizer.step()
        kept = [x for name, x in optimizer.state[made["matrix"]].items() if name != "step"]
        return sum(x.numel() * x.element_size() for x in kept) / 2**16

    assert per_weight(torch.float32) == 8 and per_weight(torch.float32, moments="bfloat16") == 4
    assert per_weight(torch.float32, moments="8bit") == 2 + 8 / BLOCK
    assert per_weight(torch.bfloat16, moments="8bit") == 4 + 8 / BLOCK
    assert per_weight(torch.bfloat16, moments="8bit", bfloat16_weights="stochastic") == 2 + 8 / BLOCK


# ---------------------------------------------------------------------------------------------------------------- bits


def test_rounding_by_chance_is_right_on_average_and_never_off_by_more_than_a_step() -> None:
    wide = torch.tensor([1.0, 1.001, -0.3, 3e-5, -7.7e8, 0.0, 1.9999]).repeat_interleave(6_000)
    noise = words(3, 0, wide.numel(), CPU)
    found = rounded(wide, lane(noise, "weight", 16)).double().view(7, -1)
    true, step = wide.double().view(7, -1)[:, 0], wide.double().view(7, -1)[:, 0].abs() * 2**-7
    assert ((found - true[:, None]).abs() <= step[:, None]).all()
    assert ((found.mean(dim=1) - true).abs() <= step * 4 * 0.5 / 6_000**0.5).all()
    assert (found[0] == 1.0).all() and (found[5] == 0.0).all()


@pytest.mark.parametrize("signed", [True, False])
def test_eight_bits_are_right_on_average(signed: bool) -> None:
    block = torch.cat([torch.tensor([1.0, 0.3, 0.0123, 4.5e-4, 0.0, 2e-5, 1e-6 if signed else 3e-9]), torch.zeros(249)])
    block = block * (torch.tensor([1.0, -1.0]).repeat(128) if signed else 1.0)
    wide = (7.3 * block).repeat(6_000)
    found = decode(*encode(wide, lane(words(5, 0, wide.numel(), CPU), "exp_avg", 20), signed=signed)).view(-1, BLOCK)
    true = 7.3 * block.double()
    step = (true.abs() / 8).clamp(min=7.3 * 2**-15 if signed else 0.0)
    assert ((found - true).abs() <= step * 1.0001).all()
    assert ((found.double().mean(dim=0) - true).abs() <= step * 4 * 0.5 / 6_000**0.5 + true.abs() * 1e-6).all()


def test_a_second_moment_is_never_rounded_to_nothing() -> None:
    wide = torch.tensor([1.0, 1e-12, 1e-30, 0.0])
    for seed in range(50):
        found = decode(*encode(wide, lane(words(seed, 0, 4, CPU), "exp_avg_sq", 20), signed=False))
        assert (found[:3] > 0).all() and found[3] == 0


def test_codes_mean_what_they_meant() -> None:
    for dtype, codes in ((torch.int8, torch.arange(-127, 128)), (torch.uint8, torch.arange(256))):
        value = decode(codes.to(dtype), torch.ones(1))
        again, scale = encode(value, torch.full(codes.shape, 2**20 - 1, dtype=torch.int32), signed=dtype == torch.int8)
        assert torch.equal(again.long(), codes) and scale == 1.0 and (value.diff() > 0).all()


def test_a_master_is_exact() -> None:
    wide = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(-30, 20).repeat(200)
    wide = torch.cat([wide, torch.tensor([0.0, -0.0, 1.00390625, -1.00390625])])
    near, rest = split(wide)
    assert torch.equal(join(near, rest).view(torch.int32), wide.view(torch.int32))
    assert ((near.double() - wide.double()).abs() <= wide.double().abs() * 2**-8).all()


# ------------------------------------------------------------------------------------------------- resume, ranks, noise


@pytest.mark.parametrize(("moments", "weights"), OPTIONS)
def test_a_resumed_optimizer_goes_on_with_the_same_bits(moments: str, weights: str, tmp_path: Path) -> None:
    def fresh() -> tuple[dict[str, nn.Parameter], AdamW]:
        made = parameters(torch.bfloat16)
        return made, ours(made, moments=moments, bfloat16_weights=weights, seed=3)

    params, optimizer = fresh()
    train(params, optimizer, 3)
    save(
        tmp_path,
        3,
        {"model": {n: p.data for n, p in params.items()}, "optim": optimizer.state_dict()},
        identity=IDENTITY,
    )
    train(params, optimizer, 3, start=3)
    others, receiver = fresh()
    loaded = load_latest(tmp_path)
    assert loaded is not None
    load_tensors({name: p.data for name, p in others.items()}, loaded.state["model"], what="the model")
    load_optimizer(receiver, loaded.state["optim"])
    train(others, receiver, 3, start=3)
    assert same({n: p.data for n, p in params.items()}, {n: p.data for n, p in others.items()})
    assert same(optimizer.state_dict(), receiver.state_dict())


def test_noise_follows_from_seed_step_and_name_alone() -> None:
    def end(seed: int, names: dict[str, str] | None = None) -> Tensor:
        made = {(names or {}).get(n, n): p for n, p in parameters(torch.bfloat16).items()}
        optimizer = ours(made, bfloat16_weights="stochastic", lr=1e-5, seed=seed)
        for _ in range(2):
            for p in made.values():
                p.grad = torch.ones(p.shape)
            optimizer.step()
        return next(iter(made.values())).detach().clone()

    assert torch.equal(end(0), end(0))
    assert not torch.equal(end(0), end(1)) and not torch.equal(end(0), end(0, names={"matrix": "other"}))


def test_a_state_of_other_options_is_refused() -> None:
    params = parameters(torch.bfloat16)
    given = ours(params)
    train(params, given, 1)
    others: tuple[dict[str, Any], ...] = (
        {"moments": "8bit"},
        {"moments": "bfloat16"},
        {"bfloat16_weights": "stochastic"},
    )
    for options in others:
        with pytest.raises(CheckpointError, match="parameter 0"):
            load_optimizer(ours(parameters(torch.bfloat16), **options), copy.deepcopy(given.state_dict()))


def test_options_that_nothing_would_look_at_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bfloat16_weights=stochastic rounds bfloat16 weights, but .* float32"):
        ours(parameters(), bfloat16_weights="stochastic")
    with pytest.raises(ConfigError, match=r"optim\.moments=8bit shrinks parameters of 4096"):
        ours({"norm": parameters()["norm"]}, moments="8bit")
