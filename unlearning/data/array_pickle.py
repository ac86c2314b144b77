"""Pickles of dicts, lists, text, numbers and numeric arrays, read without running anything that they name.

A pickle is a program. Here it can call five things, and none of them is what it thinks: each name below stands for a
small recorder of ours, and any other name is refused. The machine that interprets it is the standard library's in
Python, not the one in C, whose memo a few bytes can make ask for gigabytes.
"""

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

KINDS = "biuf"  # booleans, integers and floats: nothing that holds a pointer
LARGEST = 4 << 30
REFUSED = (
    pickle.INST,
    pickle.OBJ,
    pickle.NEWOBJ,
    pickle.NEWOBJ_EX,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
    pickle.PERSID,
    pickle.BINPERSID,
    pickle.BYTEARRAY8,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
)


class _Recorder:
    """Made anew for each pickle. It takes no state from it, so that none outlives the reading."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("state is set on something that is no array")


class _NoClass(_Recorder):
    """Stands for `numpy.ndarray`, which is named and never called."""

    __slots__ = ()


class _Dtype:
    """Stands for a `numpy.dtype`: its code, and the byte order that its state names."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("a dtype with fields or parts")
        self.order = _text(state[1])

    def real(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind not in KINDS or dtype.hasobject:
            raise pickle.UnpicklingError(f"an array of dtype {self.code!r}: only numbers are read")
        return dtype if self.order == "|" else dtype.newbyteorder("<" if self.order == "<" else ">")


class _Array:
    """Stands for an array that is not filled yet."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, _Dtype() as made, bool() | int() as fortran, content):
                dtype = made.real()
            case _:
                raise pickle.UnpicklingError("an array whose state is not version, shape, dtype, order and content")
        if not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array whose content is no bytes")
        if not all(isinstance(size, int) and 0 <= size <= LARGEST for size in shape):
            raise pickle.UnpicklingError(f"an array of shape {shape}")
        self.value = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C").copy()


class _MakeArray(_Recorder):
    """Stands for numpy's `_reconstruct`."""

    __slots__ = ()

    def __call__(self, kind: object, *_: object) -> _Array:
        if not isinstance(kind, _NoClass):
            raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
        return _Array()


class _MakeDtype(_Recorder):
    """Stands for `numpy.dtype`."""

    __slots__ = ()

    def __call__(self, code: object, *_: object) -> _Dtype:
        return _Dtype(_text(code))


class _Encode(_Recorder):
    """Stands for `_codecs.encode`, by which Python 3 writes bytes in old protocols."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("an encoding other than latin1")
        return text.encode("latin1")


NAMES: dict[tuple[str, str], type[_Recorder]] = {
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray,
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray,
    ("numpy", "ndarray"): _NoClass,
    ("numpy", "dtype"): _MakeDtype,
    ("_codecs", "encode"): _Encode,
}


def _refused(_: object) -> None:
    raise pickle.UnpicklingError("an instruction that arrays, text and numbers do not need")


class _Unpickler(pickle._Unpickler):
    """Knows five names, and none of the instructions that make other objects or ask for memory before they read."""

    dispatch = {**pickle._Unpickler.dispatch, **{instruction[0]: _refused for instruction in REFUSED}}  # noqa: RUF012  # as its base has it

    @override
    def find_class(self, module: str, name: str) -> _Recorder:
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}: nothing but arrays, text and numbers is read")
        return NAMES[module, name]()


def parse_arrays(content: bytes, name: str) -> dict[str, Any]:
    """The dict in these bytes, its keys as text; values are arrays, lists, text, bytes or numbers. Nothing is run.

    Raises:
        ValueError: not a pickle, cut short, followed by something, no dict, or it names anything but numpy's arrays; says
            at which offset reading had arrived.
    """
    stream = io.BytesIO(content)
    try:
        found = _Unpickler(stream, encoding="bytes").load()
    except Exception as error:  # a malformed program fails in any way: all are one refusal
        raise ValueError(f"{name}: not a sound pickle, up to offset {stream.tell()}: {error}") from error
    if stream.tell() != len(content):
        raise ValueError(f"{name}: the pickle ends at offset {stream.tell()}, the file at {len(content)}")
    if not isinstance(found, dict) or not all(isinstance(key, str | bytes) for key in found):
        raise ValueError(f"{name}: offset 0: not a dict with names as keys")
    values: dict[str, Any] = {}
    for key, value in found.items():
        text = key if isinstance(key, str) else key.decode("latin1")
        if text in values:
            raise ValueError(f"{name}: key {text!r} is there twice")
        values[text] = value
    for text, value in values.items():
        if isinstance(value, _Array):
            if value.value is None:
                raise ValueError(f"{name}: {text!r} is an array without content")
            values[text] = value.value
        elif not isinstance(value, str | bytes | int | float | list | tuple | None):
            raise ValueError(f"{name}: {text!r} is a {type(value).__name__}")  # noqa: TRY004  # the file is at fault
    return values


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"a {type(value).__name__} where text belongs")
    return value
