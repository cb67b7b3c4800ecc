"""The shelf of recipes: `recipe(params) → stages`, a generator over one frozen parameter model. Imports no torch."""

from __future__ import annotations

from whet.registry import Shelf

recipe = Shelf("recipe", "whet.recipes", declares=())
