"""One reference of a bank: claim it, train it on what is live less its quarter, score what it never saw, throw it away.

Tickets come first. A training takes minutes to hours, and a worker that holds one serves the tickets that come due
meanwhile, between two steps of it.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import structlog
import torch

from app import lineage, logs, policy, presence, references, store, sweep
from app.banks import Changed
from app.db import transaction
from app.errors import StaleEpoch
from app.references import ReferenceLease
from unlearning import bank
from unlearning.division import GROUP, left_out
from unlearning.problem import Indices, Samples
from unlearning.splits import split_unseen
from unlearning.training import restore
from workers import artifacts, banks, pipeline, stopping, torchrun
from workers.context import device
from workers.problems import Refused, load_for
from workers.pulse import Pulse
from workers.stopping import Stopping

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""How often a training looks whether a ticket is due."""


def work() -> None:
    """Finish what a lost worker has left of a table, then train one reference, if one waits. One alone: whatever else waits
    in the queue has its turn after it. None in a worker that is to stop."""
    if stopping.asked():
        return
    banks.assemble_whole()
    with transaction() as session:
        lease = references.claim(session, presence.name())
        dead = lineage.tombstoned(session, lease.dataset_id) if lease else None
    if lease is not None and dead is not None:
        run(lease, banks.ordinals(dead))
        banks.assemble_whole()


def run(lease: ReferenceLease, dead: Indices) -> None:
    """One attempt at a reference. Whatever it raises becomes a failed attempt, unless it has gone to another worker."""
    said = {"model": lease.model, "bank": lease.bank_id, "reference": lease.number, "epoch": lease.epoch}
    with logs.about(**said), Pulse(lease) as pulse:
        try:
            reference(lease, dead, pulse)
            log.info("reference.finished")
        except StaleEpoch:
            log.warning("reference.superseded")
        except Stopping:
            pulse.give_back()
        except Exception as error:  # noqa: BLE001 - a user's Problem may raise anything
            failed(lease, error)


def reference(lease: ReferenceLease, dead: Indices, pulse: Pulse) -> None:
    """Train and score, then keep the scores. `dead` are the tombstones of the moment of the claim: none of them is trained
    on. What is forgotten while this goes on is not scored, or leaves the scores before they are kept."""
    problem = bank.reseeded(load_for(lease.problem, lease.manifest_digest), lease.number)
    tuning, audit = split_unseen(problem)
    everything = np.arange(len(problem.train))
    live = np.setdiff1d(everything, dead)
    tickets = TicketsFirst(pulse)
    begun = time.perf_counter()
    trained_on = np.setdiff1d(live, quarter_of(problem.train, live, lease.number))
    asker = torchrun.Asker(lease, compute(lease), device(), tickets.step, tickets)
    torchrun.sweep(asker.home)
    result, chosen = torchrun.trained(asker, problem, trained_on, tuning)
    seconds = time.perf_counter() - begun - tickets.seconds
    pulse.step(1.0, "scoring")
    forgotten = forgotten_now(lease)
    # Also those that wait for an update: a tombstone keeps them from the training, and their own verdict needs the scores.
    unseen = left_out(problem.train, np.setdiff1d(everything, banks.ordinals(forgotten)), lease.number)
    model = restore(problem, result.state, device())
    shown = bank.observe(model, problem, lease.number, unseen, audit)
    keep(lease, shown, seconds, len(trained_on), chosen)
    torchrun.discard(asker)


def compute(lease: ReferenceLease) -> policy.Compute:
    """What the model's policy says of processes, as it is now."""
    with transaction() as session:
        return policy.stored(policy.current(session, lease.model_id).body).compute


def quarter_of(samples: Samples, live: Indices, number: int) -> Indices:
    """What the reference never sees. Refused where another of its group had no quarter: a group of fewer than four is in no
    table, so none of it is trained."""
    first = number - number % GROUP
    try:
        quarters = [left_out(samples, live, each) for each in range(first, first + GROUP)]
    except ValueError as error:
        raise Refused(f"These references are of no use: {error}.") from error
    return quarters[number - first]


def keep(lease: ReferenceLease, shown: bank.Reference, seconds: float, samples: int, chosen: torchrun.Layout) -> None:
    """Store the scores and put them on record, without what is forgotten by then. Each further turn of the loop means that
    somebody's ticket was fulfilled, or came, meanwhile."""
    while True:
        forgotten = forgotten_now(lease)
        shown = shown.without(banks.ordinals(forgotten))
        digest = artifacts.save_reference(shown, lease.bank_id)
        told = {"samples": samples, "scored": len(shown.out_N)} | chosen.told()
        try:
            with transaction() as session:
                references.complete(session, lease, digest=digest, seconds=seconds, told=told, forgotten=forgotten)
        except Changed:
            store.delete(digest)
            continue
        return


def forgotten_now(lease: ReferenceLease) -> array[int]:
    with transaction() as session:
        return lineage.forgotten(session, lease.model_id)


class TicketsFirst:
    """A training's progress callback that keeps the lease, and lets the tickets of all models go before the training."""

    def __init__(self, pulse: Pulse) -> None:
        self.pulse = pulse
        self.looked = -LOOK_SECONDS
        self.seconds = 0.0
        """Spent on tickets so far."""
        self.paused: Callable[[], AbstractContextManager[None]] = nullcontext
        """What stops the training meanwhile, where other processes do it."""

    def step(self, fraction: float, text: str) -> None:
        """Renew, and look for tickets where a second has passed. Raises as `Pulse.step` does."""
        self.pulse.step(fraction, text)
        begun = time.monotonic()
        if begun - self.looked < LOOK_SECONDS:
            return
        try:
            waiting = sweep.due()
            with self.paused() if waiting else nullcontext():
                for model_id in waiting:
                    serve(model_id)
        except Exception as error:  # noqa: BLE001 - runs put their failures on record; a database away costs no training
            log.warning("reference.tickets", model=self.pulse.lease.model, error=type(error).__name__)
        self.looked = time.monotonic()
        self.seconds += self.looked - begun


def serve(model_id: int) -> None:
    """Work off a model's tickets in the midst of a training.

    That training is inside `fork_rng` of its own, and its dropout and augmentation draw from torch's global state. The
    nested run draws from it too, and seeds it: so it gets a fork, and the training goes on as if nothing had been.
    """
    target = device()
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        pipeline.work(model_id)


def failed(lease: ReferenceLease, error: Exception) -> None:
    """Put the failure on record, as for a batch."""
    detail, again = pipeline.explained(error)
    log.error("reference.failed", why=detail)
    try:
        with transaction() as session:
            references.fail(session, lease, detail, again=again)
    except StaleEpoch:
        log.warning("reference.superseded")
