"""The report in words for somebody who reads no statistics: what was asked, what was done, how we know, what we do not."""

from collections import Counter

from pydantic import BaseModel

from app.evidence.estimates import Estimate
from app.evidence.figures import Figure
from app.evidence.origin import Budget, Lineage, TicketLine
from app.evidence.validation import Validation
from app.policy import FEW
from app.schemas import VerdictView, VersionView
from app.tables import Decision, VersionKind


class Answer(BaseModel):
    """A question a reader has, and what can be said to it, a sentence or a few to a paragraph."""

    question: str
    answer: list[str]


def answers(
    view: VersionView, lineage: Lineage, verdict: VerdictView, why: str, drift: Budget, found: Validation
) -> list[Answer]:
    """The questions in the order they come up."""
    said = [
        Answer(question="What was asked?", answer=asked(lineage.tickets, why)),
        Answer(question="What was done?", answer=done(view, lineage, verdict, found)),
    ]
    if view.kind is VersionKind.UNLEARNED:
        said += [
            Answer(question="How do we know?", answer=known(found, drift)),
            Answer(question="What do we not know?", answer=unknown(found)),
        ]
    elif lineage.parents:
        said.append(Answer(question="How do we know?", answer=[BY_CONSTRUCTION]))
    if found.copies:
        said.append(Answer(question="What still holds the samples?", answer=held(found)))
    return said


BY_CONSTRUCTION = (
    "Nothing has to be estimated: the weights were trained from the beginning, and the forgotten samples were not read. The"
    " lineage below names what was read, by digest."
)


def count(n: int, one: str, many: str | None = None) -> str:
    return f"1 {one}" if n == 1 else f"{n} {many or one + 's'}"


def asked(tickets: list[TicketLine], why: str) -> list[str]:
    if not tickets:
        return [f"No ticket is answered by this version. It came about because: {why}."]
    reasons = Counter(ticket.reason.replace("_", " ") for ticket in tickets)
    listed = ", ".join(reason if n == 1 else f"{reason} ({n} times)" for reason, n in sorted(reasons.items()))
    verb = "asks" if len(tickets) == 1 else "ask"
    samples = count(sum(ticket.samples for ticket in tickets), "sample")
    said = [f"{count(len(tickets), 'ticket')} {verb} that this model forget {samples}. Reason given: {listed}."]
    if all(ticket.data_removed_at is not None for ticket in tickets):
        said.append("Since the ticket was accepted no training has read them; the times are in the lineage below.")
    return said


def done(view: VersionView, lineage: Lineage, verdict: VerdictView, found: Validation) -> list[str]:
    if view.kind is VersionKind.TRAINED:
        return [f"{view.version} was trained from its initial weights; it is the first of its line."]
    forgotten = count(lineage.forgotten_by_this_version, "sample")
    tried = [each for each in found.attempts if not each.this and each.decision is not Decision.PUBLISH]
    if view.kind is VersionKind.RETRAINED:
        said = [f"{view.version} was trained anew from its initial weights, without the samples."]
        if tried:
            named = ", ".join(f"{each.rung} ({each.decision})" for each in tried)
            said.append(f"Before that, approximate updates were tried and not published: {named}.")
        return said
    said = [
        f"{view.version} was computed from the weights of {view.parent} by the method {verdict.rung}, for {forgotten}. That is an"
        " approximate update: the model was changed towards what it would be without them. It was not trained anew."
    ]
    mine = next((each for each in found.attempts if each.this), None)
    if mine is not None and mine.attempt is not None:
        said.append(
            f"It was attempt {mine.attempt} of the {mine.of} that the policy allows; all of them are listed below."
        )
    return said


def known(found: Validation, drift: Budget) -> list[str]:
    """From the estimates to the error that is left, a paragraph each."""
    said = [in_words(each) for each in found.estimates]
    if found.power is not None:
        said += found.power.says
    said += whats_left(found)
    if found.one_by_one is not None and found.one_by_one.members.after is not None:
        after, strangers = found.one_by_one.members.after, found.one_by_one.strangers
        over = (
            ""
            if strangers is None
            else f", and {share(strangers)} the other way, as if something had been done to them"
        )
        said.append(f"Sample by sample, {share(after)} still stand out as members{over}.")
    said += calibrated(found)
    if found.error is not None:
        said.append(
            f"The policy accepts a chance of {found.error:g} that a batch is published although the true UE or MU lies beyond"
            f" its threshold. {drift.expectation}"
        )
    return said


def share(found: Figure) -> str:
    """How many samples a share of them is."""
    return f"{round(found.estimate * found.n)} of {found.n}"


def in_words(each: Estimate) -> str:
    """One estimate in a sentence or two."""
    what = {
        "mu": "Usefulness (MU): its accuracy less that of a retrained model",
        "ue": "Membership (UE): the share of the forgotten samples that an attack takes for members, less the same share on a"
        " retrained model",
    }[each.name]
    level = "" if each.level is None else f" (level {each.level:.0%})"
    said = f"{what} is estimated at {each.estimate:+.3f}; the interval{level} is [{each.low:+.3f}, {each.high:+.3f}]."
    if not each.claimed:
        return f"{said} With {count(each.n, 'sample')} that decides nothing: below {FEW} no rate is claimed."
    if each.threshold is None:
        return said
    place = {
        "within": "lies as a whole within",
        "crosses": "is not wholly within",
        "above": "lies wholly above",
        "below": "lies wholly below",
    }
    assert each.standing is not None, "a threshold gives a standing"
    return f"{said} It {place[each.standing]} the ±{each.threshold:g} that the policy accepts."


def whats_left(found: Validation) -> list[str]:
    seen = {figure.name: figure for figure in found.progress}
    before, after = seen.get("exposure_before"), seen.get("exposure")
    if before is None or after is None:
        return []
    return [
        f"How far they stand out among unseen samples went from {before.estimate:+.3f} to {after.estimate:+.3f}, where 0 is not"
        " at all and 0.5 is wholly."
    ]


def calibrated(found: Validation) -> list[str]:
    """Whether such intervals were right before."""
    said = []
    bank = found.calibration.bank
    if bank is not None:
        said.append(
            f"What a retrained model would show was forecast by {count(bank.references, 'reference model')}, each trained"
            " without a part of the data."
        )
        if bank.simulated:
            covered, tickets = sum(s.covered for s in bank.simulated), sum(s.tickets for s in bank.simulated)
            said[-1] += (
                f" On {tickets} simulated tickets, whose truth is known, {covered} forecasts held it within their interval;"
                " simulated tickets overlap, so this counts for less than as many real ones."
            )
    said += [
        f"Retrains of this model have since shown the true {each.name.upper()} for {count(each.count, 'verdict')}:"
        f" {each.covered} of {each.count} intervals held it, of {each.nominal:.0%} that should."
        for each in found.calibration.retrains
    ]
    if not found.calibration.retrains:
        said.append("No retrain has yet shown the truth of an estimate for this model.")
    if found.calibration.stopped is not None:
        said.append(f"Approximate updates of this model are stopped by now: {found.calibration.stopped}.")
    return said


def unknown(found: Validation) -> list[str]:
    return [
        "Whether another test, tried by somebody else, would find a trace: these tests are some of many.",
        *found.not_shown,
    ]


def held(found: Validation) -> list[str]:
    """How many places still have something of the samples."""
    weights = [copy for copy in found.copies if copy.what.startswith("weights of") and copy.state == "there"]
    said = []
    if weights:
        last = max((copy.at for copy in weights if copy.at is not None), default=None)
        until = "" if last is None else f", to be purged by {last:%Y-%m-%d}"
        said.append(
            f"The weights of {count(len(weights), 'earlier version')} learnt from them and are still kept here{until}."
        )
    else:
        said.append("No earlier weights that learnt from them are kept here.")
    said.append("The table of copies lists the rest, and what this service cannot know of.")
    return said
