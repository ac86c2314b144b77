"""What every generated shape is made of: open to what a later release of the service adds."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

SECRET = ("key", "secret")
"""Fields that hold what a log line must not: a key or a secret that was just made."""


class Shape(BaseModel):
    """A request's or an answer's body. Fields that it does not know are ignored; its errors repeat no value."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @override
    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, "..." if name in SECRET else value


class Words(StrEnum):
    """A set of words. One that is not in it yet is taken as it is: it has its value, and no name among the members."""

    @classmethod
    @override
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word
