"""The GPU's table at toy size on the CPU: every row runs, alone and after a cut, and nothing is guessed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, gpu_models, gpu_peers, gpu_rows
from benchmarks.gpu_models import TINY, QwenShape
from benchmarks.gpu_rows import Bench
from whet.batch import Tree, pack
from whet.rollout.torch_engine import TorchEngine
from whet.types import NoiseKey, Request

QUICK = ["sft-0.5B", "dpo-0.5B", "dpo-cached-0.5B", "reward-0.5B", "update-0.5B", "decode-0.5B"]
MEMORY = ["lora-1.5B", "full-1.5B"]


@pytest.fixture(autouse=True)
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_peers, "find_spec", lambda name: None)


def run(folder: Path, *names: str) -> tuple[int, dict]:
    out = folder / "gpu.json"
    code = gpu.main([*names, "--tiny", "--device", "cpu", "--rounds", "1", "--out", str(out)])
    return code, json.loads(out.read_text())


def test_rows_are_written_one_by_one_and_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, first = run(tmp_path, *QUICK[:2])
    assert code == 0 and list(first) == QUICK[:2]
    code, both = run(tmp_path, *QUICK[2:], *MEMORY, "graphs-1.5B", "grpo-0.5B", "vllm-1.5B")
    assert code == 0 and both["sft-0.5B"] == first["sft-0.5B"] and not [row for row in both.values() if "failed" in row]
    assert all(both[name]["figure"] > 0 for name in QUICK[:-1]) and all(both[name]["figure"] is None for name in MEMORY)
    assert both["vllm-1.5B"]["note"] == "stronger peer not measured" and "wheels" in both["grpo-0.5B"]["note"]
    assert both["sft-0.5B"]["machine"]["torch"] == torch.__version__ and both["full-1.5B"]["bench"]["tiny"]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("sft-1.5B"))
    assert line.split() == ["sft-1.5B", "≥", "0.45", "share", "of", "the", "matrix", "rate"]


def test_a_row_that_fails_is_named_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: Bench, size: str) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(gpu_rows, "decode", broken)
    code, found = run(tmp_path, "decode-1.5B", "vllm-0.5B")
    assert code == 1 and found["decode-1.5B"]["failed"] == "RuntimeError: out of memory"
    assert found["decode-1.5B"]["figure"] is None and "failed" not in found["vllm-0.5B"]


def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 2
    assert capsys.readouterr() == ("", gpu.NO_GPU + "\n")
    assert gpu.main(["--empty", "--out", str(tmp_path / "gpu.json")]) == 2
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + 2 * 11 + 2 and not (tmp_path / "gpu.json").exists()
    assert gpu.main(["sft", "--tiny", "--device", "cpu"]) == 2
    assert "no row is called sft; rows: sft-0.5B" in capsys.readouterr().err


def test_generation_peers_sample_from_the_live_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Peer:
        """vLLM as far as the row uses it."""

        def __init__(self, *, model: str, dtype: str, **options: object) -> None:
            assert dtype == "float32" and (Path(model) / "model.safetensors").exists()

        def generate(self, inputs: list[dict], how: dict, *, use_tqdm: bool) -> None:
            assert how["n"] > 1 and how["ignore_eos"] and inputs[0]["prompt_token_ids"]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=Peer, SamplingParams=dict))
    monkeypatch.setattr(gpu_peers, "find_spec", lambda name: name == "vllm" or None)
    code, found = run(tmp_path, "generate-0.5B", "vllm-0.5B")
    assert code == 0 and all(found[name]["figure"] > 0 for name in ("generate-0.5B", "vllm-0.5B"))


@pytest.mark.slow
def test_the_rows_with_long_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    code, found = run(tmp_path, "continuous-0.5B", "grpo-0.5B")
    assert code == 0 and found["grpo-0.5B"]["figure"] > 0 and found["continuous-0.5B"]["figure"] > 0
    assert 8 < found["grpo-0.5B"]["details"]["mean length"] < 32


def test_operations_are_those_of_every_token_once() -> None:
    shape = QwenShape(layers=2, width=4, heads=2, kv_heads=1, inner=8, vocabulary=10)
    twins = [gpu_models.rollout((1, 2), answer) for answer in ((3,), (4, 5))]
    batch = pack([Tree(rollouts=twins)])
    block = 2 * (4 * 4 * 2 + 4 * 4 + 3 * 4 * 8)  # queries and outputs, keys and values, the three of the inner layer
    pairs = (1 + 2) + 3 + (3 + 4)
    assert shape.block_weights == block and shape.token_cache == 2 * 2 * 2
    assert gpu_models.forward_operations(shape, batch, counted=3) == 2 * block * 5 + 4 * 4 * 2 * pairs + 2 * 4 * 10 * 3


def test_sizes_are_those_of_the_public_models() -> None:
    total = {name: shape.block_weights + shape.head_weights for name, shape in gpu_models.SHAPES.items()}
    assert {name: round(count / 1e9, 2) for name, count in total.items()} == {"0.5B": 0.49, "1.5B": 1.54}
    model = gpu_models.hf_model(TINY, "cpu", torch.float32)
    vectors = sum(p.numel() for p in model.parameters() if p.dim() == 1)
    assert sum(p.numel() for p in model.parameters()) - vectors == TINY.block_weights + TINY.head_weights


def test_the_stop_token_comes_as_often_as_asked() -> None:
    decoder = gpu_models.decoder_of(TINY, "cpu", torch.float32, stop=1 / 16)
    engine = TorchEngine(decoder, gpu_rows.online_config(64, 64).sampling, (gpu_models.STOP,))
    asked = Request(prompt=(5, 6, 7), key=NoiseKey(seed=0, stream="s", step=0, task="t"), n=200)
    lengths = [len(completion.tokens) for completion in engine.sample([asked])[0]]
    assert 12 < sum(lengths) / len(lengths) < 20
