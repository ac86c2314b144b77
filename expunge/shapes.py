"""What every generated shape is made of: open to what a later release of the service adds."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict
from typing_extensions import override


class Shape(BaseModel):
    """A request's or an answer's body. Fields that it does not know are ignored; its errors repeat no value."""

    model_config = ConfigDict(hide_input_in_errors=True)


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
