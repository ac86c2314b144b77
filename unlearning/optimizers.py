"""torch's Adam and SGD, without its compiler.

The first optimizer that a process makes imports `torch._dynamo`, for those who compile their steps: as long as importing torch
itself, and a worker's first ticket waits for it. Nothing here compiles a step, so these take the plain functions underneath,
whose arithmetic is the same. Where torch wraps them otherwise one day, that costs time again and changes nothing.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


def _plain(method: Callable[..., Any]) -> Any:
    return inspect.unwrap(method)


class _Uncompiled(Optimizer):
    add_param_group = _plain(Optimizer.add_param_group)
    zero_grad = _plain(Optimizer.zero_grad)
    state_dict = _plain(Optimizer.state_dict)
    load_state_dict = _plain(Optimizer.load_state_dict)


class _Adam(_Uncompiled, torch.optim.Adam):
    step = torch.no_grad()(_plain(torch.optim.Adam.step))


class _SGD(_Uncompiled, torch.optim.SGD):
    step = torch.no_grad()(_plain(torch.optim.SGD.step))


def adam(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float = 0.0) -> Optimizer:
    """`torch.optim.Adam`."""
    return _Adam(parameters, lr=learning_rate, weight_decay=weight_decay)


def sgd(
    parameters: Iterable[nn.Parameter], learning_rate: float, momentum: float = 0.0, weight_decay: float = 0.0
) -> Optimizer:
    """`torch.optim.SGD`."""
    return _SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
