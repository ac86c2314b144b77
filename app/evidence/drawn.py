"""What a verdict keeps for the eye beside its statistics, as the worker drew it on exactly these weights; nothing is recomputed.

Counts in bins, curves on a grid, shares by class, coarse maps: never a value of one forgotten sample, never a sample's id.
"""

from typing import Literal

from pydantic import BaseModel, Field

from app.tables import Verdict

QUANTITIES = {
    "probability": "probability of the true class",
    "loss": "loss",
    "gradient norm": "norm of the gradient",
}
SOURCES = {
    "bank": "of the same class and as hard, by the references that never saw them",
    "holdout": "of the same class and as hard, by early features",
    "class": "of the same class",
}


class Binned(BaseModel):
    """One quantity over some samples on one model: a bin more than there are edges, the outermost open."""

    counts: list[int]
    shares: list[float] = Field(description="Of unseen samples weighted as the comparison weighs them; counts are not")
    mean: float


class Spread(BaseModel):
    """One quantity of the forgotten samples and of the unseen ones that they are held against, before and after."""

    quantity: Literal["probability", "loss", "gradient norm"]
    edges: list[float] = Field(description="Inner edges; a value on an edge is in the bin above it")
    n_f: int
    n_h: int
    forget_before: Binned
    forget_after: Binned
    unseen_before: Binned
    unseen_after: Binned
    seed: int | None = Field(description="Of the draw, where not all samples were taken")

    @property
    def named(self) -> str:
        return QUANTITIES[self.quantity]


class Roc(BaseModel):
    """One attack's recall on the forgotten samples at rates of unseen samples of their class that it calls members too."""

    attack: str
    rates: list[float]
    before: list[float]
    after: list[float]
    auc_before: float
    auc_after: float
    n_f: int
    n_h: int


class Classes(BaseModel):
    """Right answers on the audit's test, by class."""

    labels: list[int]
    n: list[int]
    before: list[int] | None = Field(description="Null where there was no version before")
    after: list[int]
    left_out: int = Field(description="Classes that changed less than those shown, where there are very many")


class Map(BaseModel):
    """Where the score of an unseen image's class comes from: rows of digits from 0 to 9, each map by its own scale."""

    label: int
    before: list[str]
    after: list[str]
    distance: float = Field(description="Cosine distance of the two, before they were made coarse")


class Maps(BaseModel):
    """How far the activation maps of `n` unseen test images moved."""

    layer: str
    n: int
    seed: int
    distance: float
    empty_before: float
    empty_after: float
    shown: list[Map]


class Drawn(BaseModel):
    """Everything of one verdict. Of a training there are the classes alone: the forgotten samples are not looked at."""

    n_f: int | None = None
    coarse: bool = Field(False, description="Whether the forgotten samples are so few that bins and curves are coarse")
    withheld: str | None = Field(None, description="Why the forgotten samples have no distribution and no curve")
    source: Literal["bank", "holdout", "class"] | None = None
    confidence: Spread | None = None
    roc: list[Roc] = []
    classes: Classes | None = None
    norms: Spread | None = None
    why_no_norms: str | None = None
    maps: Maps | None = None
    why_no_maps: str | None = None

    @property
    def alike(self) -> str:
        """In what the unseen samples are like the forgotten ones."""
        return SOURCES[self.source] if self.source is not None else ""


def drawn(verdict: Verdict) -> Drawn | None:
    """None for a verdict of an earlier release."""
    return None if verdict.figures is None else Drawn.model_validate(verdict.figures)
