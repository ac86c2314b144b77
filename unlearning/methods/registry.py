"""Which methods there are: those listed here, and those that installed packages name in the entry-point group.

A package of one's own writes, in its pyproject.toml,

    [project.entry-points."expunge.methods"]
    mine = "my_package:Mine"

where `Mine` is a class (or any callable that takes the settings by name) whose products fulfil
`unlearning.methods.protocol.Method`, and `Mine.name` is `"mine"`.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from unlearning.methods.amnesiac import Amnesiac, AmnesiacRelabel
from unlearning.methods.bad_teaching import BadTeaching
from unlearning.methods.calibrated import IauCalibrated
from unlearning.methods.fine_tune import FineTune
from unlearning.methods.fisher import FisherScrub
from unlearning.methods.iau import Ia, Iau, IauReleased
from unlearning.methods.neg_grad import NegGradPlus
from unlearning.methods.nothing import Nothing
from unlearning.methods.protocol import Method
from unlearning.methods.reset import Ct, Msg
from unlearning.methods.retrain import Retrain
from unlearning.methods.salun import SalUn
from unlearning.methods.scrub import Scrub
from unlearning.methods.ssd import Ssd
from unlearning.methods.usgd import Usgd

GROUP = "expunge.methods"
PARTS = ("name", "source", "needs", "cost", "unlearn")
Factory = Callable[..., Method]

BUILT_IN: dict[str, Factory] = {
    Nothing.name: Nothing,
    Iau.name: Iau,
    IauCalibrated.name: IauCalibrated,
    Ia.name: Ia,
    IauReleased.name: IauReleased,
    Usgd.name: Usgd,
    BadTeaching.name: BadTeaching,
    Amnesiac.name: Amnesiac,
    AmnesiacRelabel.name: AmnesiacRelabel,
    FisherScrub.name: FisherScrub,
    FineTune.name: FineTune,
    NegGradPlus.name: NegGradPlus,
    Scrub.name: Scrub,
    SalUn.name: SalUn,
    Ssd.name: Ssd,
    Msg.name: Msg,
    Ct.name: Ct,
    Retrain.name: Retrain,
}


class Unavailable(ValueError):
    """A method cannot be had as things are installed; the message says which and what to do."""


def names() -> list[str]:
    """Names of all methods, ours first, without loading anybody else's.

    Raises:
        Unavailable: two methods have one name.
    """
    return [*BUILT_IN, *_installed()]


def make(name: str, **settings: Any) -> Method:
    """The method called `name` with these settings; those left out are the authors' defaults.

    Raises:
        Unavailable: there is none of this name, two of them, or an installed one that cannot be loaded or is no method.
        ValueError: a setting that the method does not have or cannot take.
    """
    installed = _installed()
    if name in BUILT_IN:
        factory = BUILT_IN[name]
    elif name in installed:
        factory = _loaded(installed[name])
    else:
        raise Unavailable(f"no method {name!r} is installed here (installed: {', '.join([*BUILT_IN, *installed])})")
    try:
        method = factory(**settings)
    except TypeError as error:
        raise ValueError(f"method {name!r} does not take these settings: {error}") from error
    missing = [part for part in PARTS if not hasattr(method, part)]
    if missing:
        raise Unavailable(f"method {name!r} is installed but has no {', '.join(missing)}: mend its package")
    if method.name != name:
        raise Unavailable(
            f"the entry point {name!r} leads to a method that calls itself {method.name!r}: name them alike"
        )
    return method


def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if point.name in BUILT_IN:
            raise Unavailable(f"{_origin(point)} names a method {point.name!r}, which is built in: rename it there")
        if point.name in found and found[point.name].value != point.value:
            raise Unavailable(
                f"{_origin(found[point.name])} and {_origin(point)} both name a method {point.name!r}: remove one"
            )
        found[point.name] = point
    return found


def _loaded(point: EntryPoint) -> Factory:
    try:
        loaded = point.load()
    except Exception as error:  # whatever a stranger's module raises while it is imported
        raise Unavailable(f"method {point.name!r} of {_origin(point)} cannot be loaded: {error!r}") from error
    if not callable(loaded):
        raise Unavailable(f"method {point.name!r} of {_origin(point)} is {type(loaded).__name__}, not a class")
    factory: Factory = loaded
    return factory


def _origin(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist is not None else f"the entry point {point.value}"
