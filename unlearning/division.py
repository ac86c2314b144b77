"""Which samples a reference of the bank is trained without: a random quarter of the subjects, and all that is theirs.

References come in groups of four. A group divides the subjects into quarters, each reference of it leaves one out; the
next group divides them anew. So every sample has exactly one reference a group that never saw it, and a bank grows by
groups without a change to those it has.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from unlearning.problem import Indices, Samples

GROUP = 4
SALT = "expunge/bank/1"


def quarters(samples: Samples, indices: Indices, group: int, salt: str = SALT) -> NDArray[np.int8]:
    """quarters_N in 0..3: that of each named sample's subject, by a salted hash. A sample without a subject is one by
    itself, and a sample's quarter does not depend on which others are named."""
    ids, subjects = samples.ids, samples.subjects
    found: dict[str, int] = {}
    quarters_N = np.empty(len(indices), dtype=np.int8)
    for row, index in enumerate(indices):
        subject = subjects[index]
        who = f"sample\0{ids[index]}" if subject is None else f"subject\0{subject}"
        if who not in found:
            found[who] = hashlib.sha256(f"{salt}/{group}\0{who}".encode()).digest()[0] % GROUP
        quarters_N[row] = found[who]
    return quarters_N


def left_out(samples: Samples, live: Indices, reference: int, salt: str = SALT) -> Indices:
    """Those of the live samples that the reference of this number, from 0, never sees; ascending where `live` is.

    Raises:
        ValueError: nothing is left out, or nothing is left to train on: there are too few subjects.
    """
    group, part = divmod(reference, GROUP)
    out_N = quarters(samples, live, group, salt) == part
    if not out_N.any() or out_N.all():
        raise ValueError(f"{len(live)} samples have too few subjects to leave a quarter of them out")
    found_N: Indices = live[out_N]
    return found_N
