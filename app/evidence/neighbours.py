"""What a comparison of this version's weights with earlier ones could tell, and what was done about it.

How many samples lie between a version and its parent is told exactly, here and in the lineage, also where they are few. The
number identifies nobody, a report that hid it could not be checked (every statistic has its n), and each reader of it
may read the tickets' counts. What identifies is the comparison of weights, and that is what the policy's rule closes.
"""

from pydantic import BaseModel, Field

from app import disclosure
from app.tables import Version


class Neighbours(BaseModel):
    """How near this version lies to earlier ones whose weights could be had, and by which rule."""

    rule: str = Field(description="`merge`, `withdraw` or `allow`: the policy's `lone.rule` when the batch closed")
    min_batch: int = Field(description="Fewer subjects than this are few")
    samples: int = Field(description="That lie between this version and its parent")
    few: bool | None = Field(description="Whether they are of few subjects; null where nothing was forgotten")
    withdrawn: list[str] = Field(description="Versions whose weights nobody is given since this one was published")
    handed_out: list[str] = Field(description="Those of them that somebody had been given before")
    says: list[str]


def neighbours(version: Version) -> Neighbours | None:
    """Null for a first version, and for those of earlier releases, which did nothing about it."""
    if version.disclosure is None:
        return None
    found = disclosure.Guard(**version.disclosure)
    return Neighbours(
        rule=found.rule,
        min_batch=found.min_batch,
        samples=version.forgotten,
        few=found.few,
        withdrawn=found.withdrawn,
        handed_out=found.handed_out,
        says=says(found),
    )


def says(found: disclosure.Guard) -> list[str]:
    """The same in sentences."""
    if found.few is None:
        said = ["Nothing was forgotten between this version and its parent: there is nobody to give away."]
    elif not found.few:
        said = [f"At least {found.min_batch} subjects were forgotten since its parent, as many as the policy asks for."]
    else:
        said = [f"Fewer than {found.min_batch} subjects were forgotten since its parent."]
        if found.rule == "merge":
            said.append("The batch waited for company, and too little came in time.")
        if found.rule == "allow":
            said.append(
                "The policy allows that: whoever has the weights of both can compare them, and may find out whose."
            )
    if found.withdrawn:
        said.append(f"Since this version was published nobody is given the weights of {', '.join(found.withdrawn)}.")
    if found.handed_out:
        said.append(
            f"Those of {', '.join(found.handed_out)} had been given out before: who kept them can compare them with these."
        )
    return said
