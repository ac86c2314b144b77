"""Two versions of one model side by side: what each verdict said, by which rules, and how they descend from each other.

Reads rows only and measures nothing: whatever stands beside each other here was found by each version's own verdict.
"""

from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app import policy, versions, views
from app.errors import Unprocessable
from app.evidence.drawn import Drawn, drawn
from app.evidence.figures import Figure, figure
from app.evidence.origin import Ancestor, Lineage, lineage
from app.schemas import VerdictView, VersionView
from app.tables import Version, VersionKind

FIRST = ("mu", "ue", "accuracy", "exposure_before", "exposure", "residual", "worst_class", "cumulative_mu")
DIFFERENT_SETS = (
    "Each version was judged on its own forget set, so UE, exposure and whatever else is about forgotten samples is about"
    " different samples; only what is measured on the audit's test compares directly."
)
NO_WEIGHTS = (
    "Nothing here compares the weights. Whoever has both can, and may learn something of the samples forgotten between."
)
NOT_A_RANKING = "Where two intervals overlap, no difference was shown; that is no evidence that there is none."


class Side(BaseModel):
    """One of the two."""

    version: VersionView
    summary: str
    verdict: VerdictView
    forgotten: int = Field(description="Samples that this version forgot and its parent still held")
    excluded: int = Field(description="Samples of the manifest that it has not learnt from, or forgot")
    figures: Drawn | None


class Pair(BaseModel):
    """A statistic of both verdicts; null where one has none of it."""

    name: str
    earlier: Figure | None
    later: Figure | None


class Difference(BaseModel):
    """Something that is not the same; a path into nested values, and both of them."""

    path: str
    earlier: Any
    later: Any


class Distance(BaseModel):
    """How the later version descends from the earlier one."""

    publications: int
    updates: int
    trainings: int
    forgotten: int = Field(description="Samples forgotten on the way, those of the later version included")
    anchor_earlier: str = Field(description="The last version up to it that was trained")
    anchor_later: str
    path: list[Ancestor] = Field(description="From after the earlier one up to the later one, oldest first")
    says: str


class Comparison(BaseModel):
    """Two versions of one model, the earlier one first."""

    model: str
    earlier: Side
    later: Side
    statistics: list[Pair]
    policy: list[Difference] = Field(description="Where the policies differ that the two were judged by")
    environment: list[Difference] = Field(description="Where what the bytes depend on besides the inputs differs")
    lineage: Distance
    not_shown: list[str]


def side(version: Version, summary: str) -> Side:
    return Side(
        version=views.version(version, version.model.current_version_id),
        summary=summary,
        verdict=views.verdict(version.verdict),
        forgotten=version.forgotten,
        excluded=version.excluded_count,
        figures=drawn(version.verdict),
    )


def in_order(one: Version, other: Version) -> tuple[Version, Version]:
    """The earlier one first. Raises `Unprocessable` where they cannot be compared."""
    if one.model_id != other.model_id:
        raise Unprocessable("Two versions of one model are compared; these are of different models.")
    if one.id == other.id:
        raise Unprocessable("A version is compared with another one; both references name the same.")
    return (one, other) if one.number < other.number else (other, one)


def compare(session: Session, earlier: Version, later: Version, summaries: tuple[str, str]) -> Comparison:
    """Both as `in_order` gives them, with a sentence on each."""
    left, right = side(earlier, summaries[0]), side(later, summaries[1])
    both_updated = earlier.kind is later.kind is VersionKind.UNLEARNED
    return Comparison(
        model=earlier.model.name,
        earlier=left,
        later=right,
        statistics=pairs(left.verdict, right.verdict),
        policy=differences(rules(earlier), rules(later)),
        environment=differences(earlier.environment, later.environment),
        lineage=distance(session, earlier, later),
        not_shown=[*([DIFFERENT_SETS] if both_updated else []), NOT_A_RANKING, NO_WEIGHTS],
    )


def pairs(earlier: VerdictView, later: VerdictView) -> list[Pair]:
    """Every statistic that either has, those that one looks for first in front."""
    rest = sorted((earlier.statistics.keys() | later.statistics.keys()) - set(FIRST))
    found = [Pair(name=name, earlier=figure(earlier, name), later=figure(later, name)) for name in (*FIRST, *rest)]
    return [pair for pair in found if pair.earlier or pair.later]


def rules(version: Version) -> dict[str, Any]:
    """The policy that a version was judged by; what a later release added to policies has the value that it then had."""
    return policy.stored(version.batch.policy).model_dump(mode="json")


def differences(earlier: dict[str, Any], later: dict[str, Any]) -> list[Difference]:
    """Leaves that differ, by their path; null for what one side lacks."""
    before, after = flat(earlier), flat(later)
    return [
        Difference(path=path, earlier=before.get(path), later=after.get(path))
        for path in dict.fromkeys([*before, *after])
        if before.get(path) != after.get(path)
    ]


def flat(nested: dict[str, Any], above: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{above}{key}.")
        else:
            leaves[f"{above}{key}"] = value
    return leaves


def distance(session: Session, earlier: Version, later: Version) -> Distance:
    """From the versions between, both ends known."""
    traced: Lineage = lineage(session, later)
    between = traced.parents[: later.number - earlier.number - 1]  # newest first
    on_the_way = [*reversed(between), itself(later)]
    updates = sum(each.kind is VersionKind.UNLEARNED for each in on_the_way)
    anchors = [versions.name_of(versions.anchor(session, v.model_id, v.number)) for v in (earlier, later)]
    return Distance(
        publications=len(on_the_way),
        updates=updates,
        trainings=len(on_the_way) - updates,
        forgotten=sum(each.forgotten for each in on_the_way),
        anchor_earlier=anchors[0],
        anchor_later=anchors[1],
        path=on_the_way,
        says=told(earlier, later, updates, len(on_the_way) - updates, again=came_back(session, earlier, later)),
    )


def itself(version: Version) -> Ancestor:
    name = versions.name_of(version)
    return Ancestor(
        version=name,
        kind=version.kind,
        weights_sha256=version.weights_digest,
        published_at=version.published_at,
        forgotten=version.forgotten,
        audit=f"/models/{name}/audit",
    )


def came_back(session: Session, earlier: Version, later: Version) -> bool:
    """Whether the earlier training's weights were served again, and the later version has them or descends from them."""
    anchors = [versions.anchor(session, v.model_id, v.number) for v in (earlier, later)]
    return anchors[0].id != anchors[1].id and len({versions.original(session, each).id for each in anchors}) == 1


def told(earlier: Version, later: Version, updates: int, trainings: int, *, again: bool) -> str:
    first, last = versions.name_of(earlier), versions.name_of(later)
    if again:
        return f"{last} goes back to the training that {first} comes from: its weights were served again."
    many = "1 approximate update" if updates == 1 else f"{updates} approximate updates"
    if trainings == 0:
        return f"{last} descends from the weights of {first} by {many}."
    anew = "a training" if trainings == 1 else f"{trainings} trainings"
    since = f" and {many}" if updates else ""
    return (
        f"Between {first} and {last} lie {anew} from initial weights{since}: {last} has none of the weights of {first}."
    )
