"""A decoder gives what is needed, where it is read, and nothing at random; adapters leave the base alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tests.families import tiny
from tests.model_folders import some_batch, some_rollouts, write_model
from whet.batch import TokenBatch, Tree, pack
from whet.errors import MissingExtra, ModelError
from whet.models import lora
from whet.models.attention import ForestPlan
from whet.models.config import LoraConfig, ModelConfig
from whet.models.io import add_value_head, load_policy, new_head, save
from whet.models.policy import Decoder
from whet.models.prove import prove
from whet.types import Rollout

LOGPROBS = frozenset({"logprobs"})


def decoder(family="llama", *, layout="auto") -> Decoder:
    made = prove(Decoder(tiny(family)), layout)
    made.heads["score"] = new_head(made, 1, bias=False)
    return add_value_head(made, seed=2)


def small() -> list[Rollout]:
    """The shared rollouts with ids the forty-token models know."""
    return [replace(r, tokens=tuple(t % 40 for t in r.tokens)) for r in some_rollouts()]


def batch() -> TokenBatch:
    first, second, third = small()
    labels = [[(4, 1.0)], [], [(2, 0.0), (5, 1.0)]]
    return pack([Tree(rollouts=[first, second], labels=labels[:2]), Tree(rollouts=[third], labels=labels[2:])])


@pytest.mark.parametrize("layout", ["forest", "padded"])
def test_heads_read_where_the_batch_says(layout):
    model, b = decoder(layout=layout), batch()
    views = model(b, frozenset({"score", "value", "step_score"}))
    hidden = [model.hidden(pack([Tree(rollouts=[r])])) for r in small()]
    score, value = model.heads["score"], model.heads["value"]
    torch.testing.assert_close(views.response["score"], torch.stack([score(h[-1])[0] for h in hidden]))
    values = [value(h[i - 1])[0] for h, r in zip(hidden, small(), strict=True) for i in range(len(h)) if r.mask[i]]
    torch.testing.assert_close(views.token["value"], torch.stack(values))
    steps = torch.stack([score(hidden[0][4])[0], score(hidden[2][2])[0], score(hidden[2][5])[0]])
    torch.testing.assert_close(views.label["step_score"], steps)
    assert views.batch is b and set(views.token) == {"value"}


def test_heads_of_narrow_models_give_all_digits_of_float32():
    model, b = decoder().to(torch.bfloat16), batch()
    views, hidden = model(b, frozenset({"score", "value"})), model.hidden(b).double()
    score, value = (model.heads[name].weight[0].double() for name in ("score", "value"))
    torch.testing.assert_close(views.response["score"].double(), hidden[b.last] @ score, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(views.token["value"].double(), hidden[b.sources] @ value, rtol=1e-5, atol=1e-7)
    assert views.response["score"].dtype == torch.float32
    (views.response["score"].sum() + views.token["value"].sum()).backward()
    assert model.heads["score"].weight.grad.dtype == torch.bfloat16


def test_statistics_and_temperature():
    model, other, b = decoder(), prove(Decoder(tiny("llama", seed=3))), batch()
    views = model(b, frozenset({"logprobs", "entropy", "forward_kl"}), temperature=0.7, other=other)
    hidden = model.hidden(b)[b.sources]
    logits = hidden @ model.head.weight.T / 0.7
    logprobs = logits.log_softmax(-1)
    torch.testing.assert_close(views.token["logprobs"], logprobs.gather(1, b.targets[:, None])[:, 0])
    torch.testing.assert_close(views.token["entropy"], -(logprobs.exp() * logprobs).sum(-1))
    second = (other.hidden(b)[b.sources] @ other.head.weight.T / 0.7).log_softmax(-1)
    torch.testing.assert_close(views.token["forward_kl"], (second.exp() * (second - logprobs)).sum(-1))
    views.token["forward_kl"].sum().backward()
    assert not any(p.grad is not None for p in other.parameters())


def test_a_plan_made_once_serves_several_forwards():
    model, b = decoder(), batch()
    plan = ForestPlan.of(b)
    assert torch.equal(model.hidden(b, plan=plan), model.hidden(b))
    assert plan.called == {0, 1}


def test_dropout_is_off_while_training():
    hf = tiny("gpt2")
    hf.config.resid_pdrop = hf.config.attn_pdrop = 0.5
    for module in hf.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model = prove(Decoder(hf)).train()
    assert torch.equal(model(batch(), LOGPROBS).token["logprobs"], model(batch(), LOGPROBS).token["logprobs"])


def test_what_a_model_does_not_have_is_said():
    model = prove(Decoder(tiny("llama")))
    with pytest.raises(ModelError, match="no score head, so it cannot give step_score; load it with load_reward"):
        model(batch(), frozenset({"step_score"}))
    with pytest.raises(ModelError, match="no value head"):
        model(batch(), frozenset({"value"}))
    with pytest.raises(ModelError, match="no adapter to turn off"), model.adapter_off():
        pass


def test_a_reference_does_not_move():
    model = decoder()
    twin = model.frozen_copy()
    assert twin.fingerprint() == model.fingerprint() and not any(p.requires_grad for p in twin.parameters())
    model(batch(), LOGPROBS).token["logprobs"].sum().backward()
    before = twin.fingerprint()
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(0.1 if p.grad is None else 0.1 * p.grad)
    assert twin.fingerprint() == before != model.fingerprint()
    assert twin.tokenizer is model.tokenizer


@pytest.fixture
def adapted(tmp_path):
    model = load_policy(ModelConfig(path=str(write_model(tmp_path)), lora=LoraConfig(rank=4), device="cpu"), seed=1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    return model, load_policy(ModelConfig(path=str(tmp_path), device="cpu"))


def test_an_adapter_off_is_the_base_model_even_after_an_exception(adapted):
    model, base = adapted
    b = some_batch()
    on, plain = model(b, LOGPROBS).token["logprobs"], base(b, LOGPROBS).token["logprobs"]
    with model.adapter_off():
        assert torch.equal(model(b, LOGPROBS).token["logprobs"], plain)
    with pytest.raises(RuntimeError, match="stop"), model.adapter_off():
        raise RuntimeError("stop")
    assert torch.equal(model(b, LOGPROBS).token["logprobs"], on) and not torch.equal(on, plain)
    ours = model(b, frozenset({"forward_kl"}), other=model).token["forward_kl"]
    assert torch.equal(ours, model(b, frozenset({"forward_kl"}), other=base).token["forward_kl"])


def test_training_an_adapter_moves_nothing_else(adapted):
    model, base = adapted
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = model.fingerprint(adapter=False)
    model(some_batch(), LOGPROBS).token["logprobs"].sum().backward()
    optimizer.step()
    assert model.fingerprint(adapter=False) == before and model.fingerprint() != before
    with model.adapter_off():
        ours = model(some_batch(), LOGPROBS).token["logprobs"]
    assert torch.equal(ours, base(some_batch(), LOGPROBS).token["logprobs"])
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)


def test_adapters_equal_their_merge_and_one_sequence_at_a_time(adapted):
    model, _ = adapted
    b = some_batch()
    ours = model(b, LOGPROBS).token["logprobs"]
    before = model.fingerprint()
    whole = prove(Decoder(lora.merged(model)))
    assert model.fingerprint() == before and model.layout == "forest"
    torch.testing.assert_close(whole(b, LOGPROBS).token["logprobs"], ours, atol=1e-5, rtol=1e-5)
    model.layout = "padded"
    model.hf.set_attn_implementation("sdpa")
    torch.testing.assert_close(model(b, LOGPROBS).token["logprobs"], ours, atol=1e-5, rtol=1e-5)


def test_a_fresh_adapter_changes_nothing_and_comes_from_its_seed(tmp_path):
    where = str(write_model(tmp_path))
    base = load_policy(ModelConfig(path=where, device="cpu"))
    one, same, other = (
        load_policy(ModelConfig(path=where, lora=LoraConfig(rank=2), device="cpu"), seed=s) for s in (1, 1, 2)
    )
    b = some_batch()
    assert torch.equal(one(b, LOGPROBS).token["logprobs"], base(b, LOGPROBS).token["logprobs"])
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    twin = one.frozen_copy()
    with twin.adapter_off():
        assert torch.equal(twin(b, LOGPROBS).token["logprobs"], base(b, LOGPROBS).token["logprobs"])
    assert one(b, LOGPROBS).token["logprobs"].requires_grad


def test_an_adapter_that_brings_dropout_is_trained_without_it(tmp_path):
    base, saved = str(write_model(tmp_path / "base")), tmp_path / "adapter"
    save(load_policy(ModelConfig(path=base, lora=LoraConfig(rank=2), device="cpu"), seed=1), saved)
    config = json.loads((saved / "adapter_config.json").read_text())
    (saved / "adapter_config.json").write_text(json.dumps(config | {"lora_dropout": 0.5}))
    model = load_policy(ModelConfig(path=str(saved), device="cpu"))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_()
    b = some_batch()

    def draw():
        return model(b, LOGPROBS).token["logprobs"]

    model.train()
    assert torch.equal(draw(), draw())


@pytest.mark.parametrize(("targets", "says"), [(("nothing",), "fits no layer"), (("lm_head",), "takes no adapter")])
def test_targets_that_cannot_be_adapted(tmp_path, targets, says):
    where = str(write_model(tmp_path))
    with pytest.raises(ModelError, match=says):
        load_policy(ModelConfig(path=where, lora=LoraConfig(targets=targets), device="cpu"))


def test_without_peft_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"pip install 'whet\[lora\]'"):
        load_policy(ModelConfig(path=str(write_model(tmp_path)), lora=LoraConfig(), device="cpu"))


def test_configs_import_without_torch():
    code = "import sys, whet.models.config; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
