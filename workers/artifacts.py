"""Tensors to bytes and back: weights as safetensors, the cached gradient sum, sets of ordinals. No pickle anywhere.

`app.store` keeps the bytes by digest and verifies them on every read; here is only what they mean.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from app import store
from unlearning.gradients import GradientSum
from unlearning.problem import Indices

COUNT = "count"
EXCLUDED = "excluded"
GRADIENT = "gradient."


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
class CachedGradients:
    """G(S) at a version's weights. S is the training set without `excluded`, the tombstones of the moment it was computed."""

    total: GradientSum
    excluded: Indices


def save_gradients(cached: CachedGradients) -> str:
    """Keep a gradient sum; returns its digest."""
    tensors = {GRADIENT + name: value.detach().cpu().contiguous() for name, value in cached.total.vector.items()}
    tensors[COUNT] = torch.tensor(cached.total.count)
    tensors[EXCLUDED] = torch.from_numpy(np.asarray(cached.excluded, dtype=np.int64))
    return store.put(bytes(save(tensors)))


def load_gradients(digest: str, device: torch.device) -> CachedGradients:
    """A gradient sum by digest. Raises `Corrupt` or `Gone`; the caller then computes it again."""
    tensors: dict[str, Tensor] = load(store.get(digest))
    vector = {k.removeprefix(GRADIENT): v.to(device) for k, v in tensors.items() if k.startswith(GRADIENT)}
    return CachedGradients(GradientSum(vector, int(tensors[COUNT])), tensors[EXCLUDED].numpy())


def save_ordinals(ordinals: Indices) -> str:
    """Keep a set of ordinals (positions, not ids); returns its digest, which is `lineage.digest` of the set."""
    return store.put(np.asarray(ordinals, dtype="<i8").tobytes())


def load_ordinals(digest: str) -> Indices:
    found: Indices = np.frombuffer(store.get(digest), dtype="<i8").astype(np.int64)
    return found
