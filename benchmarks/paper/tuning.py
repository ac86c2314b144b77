"""What is tried of each method: its authors' defaults first, then one setting times 0.1 and times 10.

The same budget of three runs for all. Which setting: the learning rate, or what takes its place. IAU in its variants and
iau-calibrated find their step themselves on the same tuning data, and have one run.
"""

from dataclasses import dataclass, replace
from typing import Any

from unlearning.methods.protocol import Method
from unlearning.methods.registry import make, names
from unlearning.problem import Recipe

FACTORS = (1.0, 0.1, 10.0)
STRENGTH = {"iau-released": "eta", "fisher": "alpha", "ssd": "alpha"}
BY_THEMSELVES = ("nothing", "ia", "iau", "iau-calibrated")
NOT_ROWS = ("nothing", "retrain")


@dataclass(frozen=True)
class Trial:
    """One run of a method: `factor` multiplies the default of `setting`, which is empty where nothing is searched."""

    method: Method
    setting: str
    factor: float

    @property
    def label(self) -> str:
        return f"{self.method.name}-x{self.factor:g}"


def compared() -> list[str]:
    """The methods that a table compares: all that are registered, but the two that bound the scale."""
    return [name for name in names() if name not in NOT_ROWS]


def trials(name: str, recipe: Recipe) -> list[Trial]:
    """The runs of one method, the authors' defaults first.

    USGD's rate is that of the training, also where the training was Adam's, for which the rule was not derived.
    """
    if name in BY_THEMSELVES:
        return [Trial(make(name), "", 1.0)]
    method: Any = make(name, learning_rate=recipe.learning_rate) if name == "usgd" else make(name)
    setting = STRENGTH.get(name, "learning_rate")
    default = getattr(method, setting)
    return [Trial(replace(method, **{setting: default * factor}), setting, factor) for factor in FACTORS]
