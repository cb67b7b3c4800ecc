"""Stop strings end a response at the token that completes them, whatever tokens spell them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from engine_models import ask, tiny
from paths import need
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from whet.rollout.config import SamplingConfig
from whet.rollout.stops import StopStrings
from whet.rollout.torch_engine import TorchEngine

TOKENIZERS = ["tokenizers/minimind", "models/stories260K/hf", "models/babyllama-tok105/hf"]


def tokenizer_of(path: str) -> Any:
    return AutoTokenizer.from_pretrained(str(need(f"data/{path}")))


def letters() -> PreTrainedTokenizerFast:
    """61 tokens: three special ones, then one or two letters each."""
    from tokenizers import Tokenizer, decoders, models

    words = [f"{a}{b}" for a in "abcdef" for b in ("", *"abcdefg")] + list("ghijklmnop")
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("path", TOKENIZERS)
def test_it_stops_where_decoding_everything_would(path: str) -> None:
    tokenizer = tokenizer_of(path)
    rng = random.Random(0)
    text = 'Ana said: "Stop, naïve 🦊 boy!"\n\nTom </answer> ran. The end.\n\n\nEnd End of it → done'
    stops = ["</answer>", "\n\n", "🦊", "he end", "d E", ".", "ï", " ran", "→ do"]
    for _ in range(60):
        tokens: list[int] = []
        for _ in range(rng.randrange(1, 4)):
            start = rng.randrange(len(text))
            tokens += tokenizer.encode(text[start : start + rng.randrange(1, 50)], add_special_tokens=False)
        strings = tuple(rng.sample(stops, 2))
        watch = StopStrings(tokenizer, strings)
        found = next((i for i in range(1, len(tokens) + 1) if watch(tokens[:i])), None)
        whole = [tokenizer.decode(tokens[:i], clean_up_tokenization_spaces=False) for i in range(1, len(tokens) + 1)]
        wanted = next((i + 1 for i, said in enumerate(whole) if any(s in said for s in strings)), None)
        assert found == wanted, (strings, whole)


def test_few_tokens_are_decoded() -> None:
    tokenizer = letters()
    decoded: list[int] = []

    class Counting:
        def decode(self, tokens: list[int], **options: Any) -> str:
            decoded.append(len(tokens))
            return tokenizer.decode(tokens, **options)

    watch = StopStrings(Counting(), ("zz",))
    tokens = [random.Random(0).randrange(3, 61) for _ in range(500)]
    assert not any(watch(tokens[: i + 1]) for i in range(500))
    assert max(decoded) <= 6 and len(decoded) <= 61


def test_a_stop_string_ends_the_draw_and_stays_in_its_text() -> None:
    tokenizer = letters()
    decoder = tiny(tokenizer=tokenizer)
    sampling = SamplingConfig(max_new_tokens=30, stop=("dab", "fc"))
    drawn = TorchEngine(decoder, sampling, (2,)).sample([ask((3, 4), "t", n=80)])[0]
    free = TorchEngine(decoder, SamplingConfig(max_new_tokens=30), (2,)).sample([ask((3, 4), "t", n=80)])[0]
    ended = 0
    for c, f in zip(drawn, free, strict=True):
        assert f.tokens[: len(c.tokens)] == c.tokens
        hit = any(s in c.text for s in sampling.stop)
        ended += hit
        assert c.stopped == ("stop" if hit or c.tokens[-1] == 2 else "length")
        assert not any(s in tokenizer.decode(list(c.tokens[:-1])) for s in sampling.stop)
        assert c.text == tokenizer.decode([t for t in c.tokens if t > 2])
    assert ended > 5


def test_text_leaves_out_the_stop_token_even_where_it_is_a_word() -> None:
    decoder = tiny(tokenizer=letters())
    drawn = TorchEngine(decoder, SamplingConfig(max_new_tokens=60), (5, 6)).sample([ask((3, 4), "t", n=20)])[0]
    assert any(c.stopped == "stop" for c in drawn)
    for c in drawn:
        said = c.tokens[:-1] if c.stopped == "stop" else c.tokens
        assert c.text == decoder.tokenizer.decode([t for t in said if t > 2])
