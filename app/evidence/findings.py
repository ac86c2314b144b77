"""What a verdict's statistics say beside MU and UE: of what the tests could see, attack by attack, sample by sample.

Out of the verdict as it was recorded and nothing else. Verdicts of earlier releases have fewer statistics: what they lack
is null here, or left out, and never made up.
"""

import re

from pydantic import BaseModel, Field

from app.evidence.figures import Figure, figure, figures
from app.policy import FEW, SUPPORT
from app.schemas import VerdictView

FEW_SAYS = (
    "{n} forgotten {samples} are too few for a rate: below {few} no rate is claimed of them, and UE decides nothing."
)
ATTACKS = {
    "loss": "by the loss: a member's is lower",
    "network": "the paper's attack network",
    "distance": "by the distance to the own class in the penultimate layer: a member's is smaller",
    "reference": "by the confidence, against reference models that never saw the sample",
}
ASCENDING = re.compile(r"p, ascending: (\d\.\d+(?:, \d\.\d+)*)")


class Power(BaseModel):
    """What the same tests showed on the version before: a test that saw nothing there says nothing by seeing nothing now."""

    figures: list[Figure]
    informative: bool | None = Field(description="Whether the attack tells members from unseen samples at all")
    says: list[str]


class Change(BaseModel):
    """One statistic on the version before, and on this one."""

    before: Figure | None
    after: Figure | None


class Attack(BaseModel):
    """What one membership attack makes of the forgotten samples, before and after."""

    attack: str
    says: str
    auc: Change
    recall_fpr1: Change = Field(description="Recall where 1 % of unseen samples are called members")
    recall_fpr5: Change = Field(description="Recall where 5 % of unseen samples are called members")


class OneByOne(BaseModel):
    """Samples that stand out by themselves, as shares of the forgotten samples. For small sets all p-values, ascending:
    an order that names nobody."""

    members: Change = Field(description="Above unseen samples as hard")
    strangers: Figure | None = Field(description="Below them: over-forgetting")
    p_members_before: list[float]
    p_members: list[float]
    p_strangers: list[float]
    says: str | None = Field(description="For fewer samples than a rate can be claimed of")


def power(verdict: VerdictView) -> Power:
    attacks = [f"auc_{attack}_before" for attack in ATTACKS]
    found = figures(
        verdict, "exposure_before", "ue_before", "members_before", *attacks, "paper_recall_before", "paper_fpr_before"
    )
    rates = figures(verdict, "attack_tpr", "attack_fpr")
    informative = rates[0].low > rates[1].high if len(rates) == 2 else None
    says: list[str] = []
    if len(rates) == 2:
        able = "It tells them apart." if informative else "It cannot tell them apart: what it says is no evidence."
        says.append(
            f"On the version before, the attack behind UE called {rates[0].estimate:.1%} of the samples that stay members, and"
            f" {rates[1].estimate:.1%} of unseen samples. {able}"
        )
    ranked = supported(figure(verdict, "support"))
    if not ranked:
        says.append(
            "Too few unseen samples are as hard as the forgotten ones: how they stand among them, together or one by one, was"
            " not judged."
        )
    says += [stood_out(each) for each in found if (each.name == "exposure_before" and ranked) or of_rate(each)]
    return Power(figures=[*found, *rates], informative=informative, says=says)


def supported(support: Figure | None) -> bool:
    """Whether ranks among unseen samples as hard mean something; verdicts of earlier releases took it for granted."""
    return support is None or support.estimate >= SUPPORT


def of_rate(found: Figure) -> bool:
    """Whether it is an excess of the attack, of enough samples to claim one."""
    return found.name == "ue_before" and found.n >= FEW


def stood_out(before: Figure) -> str:
    how = "by rank" if before.name == "exposure_before" else "by the attack's recall"
    if before.low > 0:
        return f"On the version before, the forgotten samples stood out {how}: {before.shown}. There was something to see go."
    says = f"On the version before, the forgotten samples did not detectably stand out {how}: {before.shown}."
    return f"{says} A test that saw nothing then shows nothing by seeing nothing now."


def attacks(verdict: VerdictView) -> list[Attack]:
    """Each attack whose figures the verdict has, before and after side by side."""
    made = [
        Attack(
            attack=name,
            says=says,
            auc=change(verdict, f"auc_{name}"),
            recall_fpr1=change(verdict, f"recall_{name}_fpr1"),
            recall_fpr5=change(verdict, f"recall_{name}_fpr5"),
        )
        for name, says in ATTACKS.items()
    ]
    return [attack for attack in made if attack.auc.before or attack.auc.after]


def change(verdict: VerdictView, name: str) -> Change:
    return Change(before=figure(verdict, f"{name}_before"), after=figure(verdict, name))


def one_by_one(verdict: VerdictView, forgotten: int) -> OneByOne | None:
    """None where the verdict has nothing on single samples and there are enough for a rate."""
    members, strangers = change(verdict, "members"), figure(verdict, "strangers")
    few = forgotten < FEW
    if not few and members.before is None and members.after is None and strangers is None:
        return None
    samples = "sample" if forgotten == 1 else "samples"
    return OneByOne(
        members=members,
        strangers=strangers,
        p_members_before=p_values(members.before),
        p_members=p_values(members.after),
        p_strangers=p_values(strangers),
        says=FEW_SAYS.format(n=forgotten, samples=samples, few=FEW) if few else None,
    )


def p_values(found: Figure | None) -> list[float]:
    """Those that the note of a small set's statistic lists, ascending."""
    told = ASCENDING.search(found.note) if found is not None else None
    return [float(p) for p in told[1].split(", ")] if told else []
