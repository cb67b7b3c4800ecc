"""Linear layers through oneDNN: the same values and gradients as torch's default, and a switch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.model_folders import write_model
from whet.models.config import ModelConfig
from whet.models.io import load_policy, save
from whet.models.linear import LEAST_SIZE, OneDnnLinear, use_onednn


def both(bias: bool = True, k: int = 24, n: int = 40) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    plain = nn.Linear(k, n, bias=bias)
    fast = copy.deepcopy(plain)
    use_onednn(fast, least=0)
    assert isinstance(fast, OneDnnLinear)
    return plain, fast


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    out = layer(x)
    (out * out.detach().sin()).sum().backward()
    return [out.detach(), *(p.grad for p in (x, *layer.parameters()) if p.grad is not None)]


@pytest.mark.parametrize("shape", [(1, 24), (2, 24), (7, 24), (1, 300, 24), (3, 5, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_the_plain_layer(shape: tuple[int, ...], bias: bool) -> None:
    plain, fast = both(bias)
    x = torch.randn(shape)
    mine, theirs = gradients(fast, x), gradients(plain, x)
    assert len(mine) == len(theirs) == 3 + bias
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_row_depends_on_no_other_row() -> None:
    _, fast = both(k=256, n=512)
    x = torch.randn(300, 256)
    with torch.no_grad():
        whole = fast(x)
        assert all(torch.equal(fast(x[:rows]), whole[:rows]) for rows in (2, 3, 8, 17, 64, 65, 257))


def test_other_types_are_computed_as_ever() -> None:
    plain, fast = both()
    for dtype in (torch.float64, torch.bfloat16):
        x = torch.randn(6, 24).to(dtype)
        assert torch.equal(fast.to(dtype)(x), plain.to(dtype)(x))


def test_frozen_weights_get_no_gradient() -> None:
    _, fast = both()
    fast.requires_grad_(False)
    x = torch.randn(5, 24, requires_grad=True)
    fast(x).sum().backward()
    assert x.grad is not None and fast.weight.grad is None


def test_a_frozen_weight_keeps_no_input_for_the_backward() -> None:
    """Below an adapter, or where only heads train, the inputs of all other layers would stay in memory for nothing."""
    kept: list[torch.Size] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    for layer in both():
        layer.requires_grad_(False)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(torch.randn(5, 24, requires_grad=True))
    assert set(kept) <= {torch.Size((40, 24)), torch.Size((24, 40))} and len(kept) == 2


def test_subclasses_of_linear_keep_their_own_product() -> None:
    class Own(nn.Linear):
        pass

    layer = Own(2, 2)
    use_onednn(layer, least=0)
    assert type(layer) is Own


def test_torchs_counter_sees_every_product() -> None:
    _, fast = both()
    with FlopCounterMode(display=False) as counter:
        gradients(fast, torch.randn(10, 24))
    assert counter.get_total_flops() == 3 * 2 * 10 * 24 * 40


def test_loading_uses_them_unless_told_otherwise(tmp_path) -> None:
    folder = write_model(tmp_path / "model", intermediate_size=LEAST_SIZE // 32)
    fast, simple = (load_policy(ModelConfig(path=str(folder), linear=how)) for how in ("fast", "simple"))
    large = [{type(layer.mlp.up_proj) for layer in decoder.backbone.layers} for decoder in (fast, simple)]
    assert large == [{OneDnnLinear}, {nn.Linear}]
    assert type(fast.backbone.layers[0].self_attn.q_proj) is nn.Linear, "too small to earn back a kernel"
    save(fast, tmp_path / "again")
    again = load_policy(ModelConfig(path=str(tmp_path / "again")))
    assert again.fingerprint() == simple.fingerprint()
    assert type(fast.frozen_copy().backbone.layers[1].mlp.up_proj) is OneDnnLinear
