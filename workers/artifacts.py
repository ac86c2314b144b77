"""Tensors to bytes and back: weights as safetensors, what is prepared for updates, sets of ordinals. No pickle anywhere.

`app.store` keeps the bytes by digest and verifies them on every read; here is only what they mean.
"""

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from app import store
from app.errors import Gone
from unlearning.bank import Bank, Reference
from unlearning.difficulty import Difficulty
from unlearning.evidence import Standing
from unlearning.gradients import GradientSum
from unlearning.problem import Indices
from unlearning.records import Records

COUNT = "count"
EXCLUDED = "excluded"
DIFFICULTY = "difficulty."
GRADIENT = "gradient."
STANDING = "standing."


def weights_bytes(state: dict[str, Tensor]) -> bytes:
    """Weights and buffers as safetensors: the same tensors give the same bytes."""
    return bytes(save({name: value.detach().cpu().contiguous() for name, value in state.items()}))


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load_weights(digest: str) -> dict[str, Tensor]:
    """Weights and buffers by digest. Raises `Corrupt` or `Gone`."""
    state: dict[str, Tensor] = load(store.get(digest))
    return state


@dataclass(frozen=True)
class Prepared:
    """What an update of a version needs and no forget set changes: G(S) at its weights, how it stands before, and how hard
    its samples are.

    S is the training set without `excluded`, the tombstones of the moment it was computed.
    """

    total: GradientSum
    excluded: Indices
    standing: Standing
    difficulty: Difficulty | None = None


def save_prepared(prepared: Prepared) -> str:
    """Keep what was prepared; returns its digest."""
    tensors = {GRADIENT + name: value.detach().cpu().contiguous() for name, value in prepared.total.vector.items()}
    tensors[COUNT] = torch.tensor(prepared.total.count)
    tensors[EXCLUDED] = torch.from_numpy(np.asarray(prepared.excluded, dtype=np.int64))
    tensors |= {STANDING + name: value for name, value in prepared.standing.tensors().items()}
    if prepared.difficulty is not None:
        tensors |= difficulty_tensors(prepared.difficulty)
    return store.put(bytes(save(tensors)))


def load_prepared(digest: str, device: torch.device) -> Prepared:
    """What was prepared, by digest. Raises `Corrupt` or `Gone`; the caller then computes it again."""
    tensors: dict[str, Tensor] = load(store.get(digest))
    vector = {k.removeprefix(GRADIENT): v.to(device) for k, v in tensors.items() if k.startswith(GRADIENT)}
    found = {k.removeprefix(STANDING): v for k, v in tensors.items() if k.startswith(STANDING)}
    try:
        standing = Standing.from_tensors(found)
    except ValueError as error:
        raise Gone(f"Artifact sha256:{digest} was made by an earlier release: {error}.") from None
    total = GradientSum(vector, int(tensors[COUNT]))
    return Prepared(total, tensors[EXCLUDED].numpy(), standing, difficulty_from(tensors))


def difficulty_tensors(difficulty: Difficulty) -> dict[str, Tensor]:
    """Its fields as tensors, the layer's name as bytes."""
    tensors: dict[str, Tensor] = {}
    for field in fields(Difficulty):
        value = getattr(difficulty, field.name)
        if isinstance(value, str):
            value = np.frombuffer(value.encode(), dtype=np.uint8)
        array = value.cpu().numpy() if isinstance(value, Tensor) else value
        tensors[DIFFICULTY + field.name] = torch.from_numpy(np.array(array))
    return tensors


def difficulty_from(tensors: dict[str, Tensor]) -> Difficulty | None:
    """None where nothing could be classified."""
    found = {k.removeprefix(DIFFICULTY): v for k, v in tensors.items() if k.startswith(DIFFICULTY)}
    if not found:
        return None
    return Difficulty(
        layer=bytes(found["layer"].numpy()).decode(),
        classes_C=found["classes_C"].numpy(),
        fitted_N=found["fitted_N"].numpy(),
        gram=found["gram"],
        cross=found["cross"],
        learnt_N=found["learnt_N"].numpy(),
        learnt_margins_N=found["learnt_margins_N"].numpy(),
        learnt_losses_N=found["learnt_losses_N"].numpy(),
    )


def save_records(records: Records, run: str) -> tuple[str, int]:
    """Keep a training's records; returns their digest and their size in bytes.

    `run` stands in the file's head, so that two versions never share these bytes: one's are deleted without a look at
    the others'.
    """
    data = bytes(save(records.tensors(), metadata={"run": run}))
    return store.put(data), len(data)


def load_records(digest: str) -> Records:
    """A training's records by digest. Raises `Corrupt`, or `Gone`, also where an earlier release has made them."""
    try:
        return Records.from_tensors(load(store.get(digest)))
    except ValueError:
        raise Gone(f"Artifact sha256:{digest} was made by an earlier release: these are no records.") from None


def save_reference(reference: Reference, bank_id: int) -> str:
    """Keep what a reference shows; returns its digest. `bank_id` stands in the file's head, so that two models that are
    trained alike never share the bytes."""
    return store.put(bytes(save(reference.tensors(), metadata={"bank": str(bank_id)})))


def load_reference(digest: str) -> Reference:
    """What a reference shows, by digest. Raises `Corrupt`, or `Gone`, also where an earlier release has made it."""
    try:
        return Reference.from_tensors(load(store.get(digest)))
    except ValueError as error:
        raise Gone(f"Artifact sha256:{digest} was made by an earlier release: {error}.") from None


def save_bank(bank: Bank, bank_id: int) -> tuple[str, int]:
    """Keep a bank's table; returns its digest and its size in bytes. Its head names the bank, as a reference's does."""
    data = bytes(save(bank.tensors(), metadata={"bank": str(bank_id)}))
    return store.put(data), len(data)


def load_bank(digest: str) -> Bank:
    """A bank's table, by digest. Raises `Corrupt`, or `Gone`, also where an earlier release has made it."""
    try:
        return Bank.from_tensors(load(store.get(digest)))
    except ValueError as error:
        raise Gone(f"Artifact sha256:{digest} was made by an earlier release: {error}.") from None


def save_ordinals(ordinals: Indices) -> str:
    """Keep a set of ordinals (positions, not ids); returns its digest, which is `lineage.digest` of the set."""
    return store.put(np.asarray(ordinals, dtype="<i8").tobytes())


def load_ordinals(digest: str) -> Indices:
    found: Indices = np.frombuffer(store.get(digest), dtype="<i8").astype(np.int64)
    return found
