"""What training needs of a tokenizer: a stop token, ids that the model knows, a template, a padding id of its own.

Whet itself never pads: reading positions come from the batch, never from ids. A padding token matters only to others
who open a saved reward model with `transformers`, which scores the last token that is not padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whet.data.render import Renderer
from whet.errors import ModelError
from whet.models.place import base_of, model_of

if TYPE_CHECKING:
    from whet.models.policy import Decoder

OWN_PAD = "<|pad|>"


def load_tokenizer(path: str, *, stop: str | None = None) -> Any:
    """The tokenizer of a model folder or hub name; `stop` makes another of its tokens the one that ends answers."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} has no tokenizer that can be loaded; put tokenizer.json and tokenizer_config.json beside its "
            f"weights ({first_line(error)})"
        ) from error
    if stop is not None:
        if stop not in tokenizer.get_vocab():
            raise ModelError(f"model.stop is {stop!r}, which the vocabulary of {path} lacks; name one of its tokens")
        tokenizer.eos_token = stop
    return tokenizer


def stop_ids(tokenizer: Any, generation_config: Any = None) -> tuple[int, ...]:
    """Every token id that ends a response, ascending: the tokenizer's and all of the generation configuration's.

    >>> from types import SimpleNamespace as Config
    >>> stop_ids(Config(eos_token_id=2), Config(eos_token_id=[1, 2]))
    (1, 2)
    """
    ids: set[int] = set()
    for owner in (tokenizer, generation_config):
        eos = getattr(owner, "eos_token_id", None)
        if eos is not None:
            ids.update(eos if isinstance(eos, list | tuple) else [eos])
    return tuple(sorted(ids))


def require_stop(tokenizer: Any, generation_config: Any, path: str) -> tuple[int, ...]:
    """The stop ids, or an error: without one every response runs to its length limit."""
    ids = stop_ids(tokenizer, generation_config)
    if not ids:
        raise ModelError(
            f"{path} names no stop token, so a response could never end; set eos_token in its tokenizer_config.json or "
            "eos_token_id in its generation_config.json"
        )
    return ids


def require_template(tokenizer: Any) -> str:
    """The chat template, or an error: conversations cannot be rendered without one."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        name = getattr(tokenizer, "name_or_path", "") or "the model"
        raise ModelError(
            f"the tokenizer of {name} has no chat template, which conversational data needs; add chat_template.jinja "
            "to its folder, or use plain prompt and completion texts"
        )
    return template if isinstance(template, str) else str(template)


def check_vocabulary(tokenizer: Any, rows: int, path: str) -> None:
    """Every id that the tokenizer can give must have an embedding row."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows:
        raise ModelError(
            f"the tokenizer of {path} gives ids up to {largest}, but the model has {rows} embedding rows; "
            "tokenizer and weights must come from the same model"
        )


def distinct_pad(tokenizer: Any, stops: tuple[int, ...], rows: int) -> int:
    """Give the tokenizer a padding token that is no stop token, and return its id.

    Its own if that is distinct; else an unused token of the vocabulary made for padding or reserved; else a new
    `<|pad|>`, whose id may be `rows` or more: then the embedding must grow.
    """
    pad = tokenizer.pad_token_id
    if pad is not None and pad not in stops:
        return int(pad)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_tokens) | set(getattr(tokenizer, "added_tokens_encoder", {}))
    spare = [t for word in ("pad", "reserved") for t in sorted(special) if word in t.lower()]
    chosen = next((t for t in spare if vocabulary.get(t, rows) < rows and vocabulary[t] not in stops), OWN_PAD)
    tokenizer.add_special_tokens({"pad_token": chosen})
    return int(tokenizer.pad_token_id)


def context_length(config: Any) -> int | None:
    """Tokens a sequence may have, or None where the model names no limit."""
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    return min((int(n) for n in limits if n), default=None)


def renderer_of(decoder: Decoder) -> Renderer:
    """How this model's conversations become tokens."""
    return Renderer(decoder.tokenizer, stop_ids=decoder.stop_ids, context=context_length(decoder.config))


def renderer_at(path: str) -> Renderer:
    """The same of a model's folder or hub name, without its weights."""
    from transformers import AutoConfig, GenerationConfig

    base = base_of(model_of(path))
    tokenizer = load_tokenizer(model_of(path))
    try:
        generation = GenerationConfig.from_pretrained(base)
    except OSError:
        generation = None  # a model need not have one
    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the configuration of {path} cannot be read ({first_line(error)})") from error
    return Renderer(tokenizer, stop_ids=require_stop(tokenizer, generation, path), context=context_length(config))


def first_line(error: Exception) -> str:
    """What an exception of another library says, without its further lines."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
