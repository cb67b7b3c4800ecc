"""A laboratory: worlds with an exact gold reward, simulated annotators, and an embedded tiny base model."""

from __future__ import annotations

from pathlib import Path

from whet.errors import ConfigError


def base_model_path(name: str = "base") -> Path:
    """The folder of an embedded model, which opens with `AutoModelForCausalLM.from_pretrained`.

    >>> base_model_path().name
    'base'
    """
    models = Path(__file__).parent / "models"
    if not (models / name / "config.json").is_file():
        known = ", ".join(sorted(path.parent.name for path in models.glob("*/config.json")))
        raise ConfigError(f"there is no embedded model {name!r}: choose one of {known}")
    return models / name
