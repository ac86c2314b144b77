"""What a case is to forget: some samples at random, some of one class, whole subjects, or what a setting has spoiled."""

from typing import Any, Literal, assert_never

import numpy as np

from benchmarks.problems import OutlierProblem
from unlearning.problem import Indices, Problem, strata

ForgetKind = Literal["random", "class", "subject"]
KINDS: tuple[ForgetKind, ...] = ("random", "class", "subject")
DEFAULT_RATIO = 0.05


def forget_set(problem: Problem, ratio: float, seed: int, kind: ForgetKind = "random") -> Indices:
    """What to forget, ascending: the spoiled samples where the problem has some, otherwise a share `ratio` by `seed`.

    "random" is that share of all training samples, "class" that share of one class, which the seed draws among those
    where it is a sample at least; "subject" are whole subjects, drawn until they have at least that share of all samples.

    Raises:
        ValueError: the share leaves nothing to forget or to retain; a problem that says itself what is forgotten and
            another kind than "random"; "class" without classes; "subject" without subjects, or with too few.
    """
    if isinstance(problem, OutlierProblem):
        if kind != "random":
            raise ValueError(f"what is forgotten are its spoiled samples: --forget {kind} does not go with it")
        return np.sort(problem.forget)
    drawn, everything = np.random.default_rng(seed), np.arange(len(problem.train))
    match kind:
        case "random":
            pool = everything
        case "class":
            classes_N = classes_of(problem)
            classes_C, sizes_C = np.unique(classes_N, return_counts=True)
            large_C = classes_C[np.round(ratio * sizes_C) >= 1]
            pool = everything[classes_N == drawn.choice(large_C)] if len(large_C) else large_C
        case "subject":
            pool = _subjects(problem, round(ratio * len(everything)), drawn)
        case _:
            assert_never(kind)
    count = len(pool) if kind == "subject" else round(ratio * len(pool))
    if not 0 < count <= len(pool) or count == len(everything):
        raise ValueError(f"a share of {ratio} of {len(pool)} samples leaves nothing to forget or to retain")
    return np.sort(drawn.permutation(pool)[:count]).astype(np.int64)


def classes_of(problem: Problem) -> Indices:
    """classes_N: the class of each training sample.

    Raises:
        ValueError: the targets are no class numbers.
    """
    _, targets = problem.train.batch(np.arange(len(problem.train)))
    if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex():
        raise ValueError("its targets are no class numbers: this needs classes")
    return strata(targets)


def _subjects(problem: Problem, least: int, drawn: np.random.Generator) -> Indices:
    """All samples of subjects drawn one after the other until they have at least `least`; nobody's samples are left out."""
    owned: dict[str, list[int]] = {}
    for position, subject in enumerate(problem.train.subjects):
        if subject is not None:
            owned.setdefault(subject, []).append(position)
    if sum(map(len, owned.values())) < least:
        raise ValueError(f"no {least} of its training samples belong to subjects: --forget subject does not go with it")
    names, found = sorted(owned), list[int]()
    for number in drawn.permutation(len(names)):
        if len(found) >= least:
            break
        found += owned[names[number]]
    return np.array(found, dtype=np.int64)


def forgotten(problem: Problem, forget: Indices, kind: ForgetKind) -> dict[str, Any]:
    """What was drawn, for the record: how many samples, and of which class and how large, or of how many subjects."""
    facts: dict[str, Any] = {"samples": len(forget)}
    if kind == "class":
        classes_N = classes_of(problem)
        chosen = int(classes_N[forget[0]])
        facts |= {"class": chosen, "class_samples": int((classes_N == chosen).sum())}
    elif kind == "subject":
        facts |= {"subjects": len({problem.train.subjects[position] for position in forget})}
    return facts
