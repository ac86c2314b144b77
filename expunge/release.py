"""Which release of the client this is."""

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version


@lru_cache(maxsize=1)
def release() -> str:
    """Its version, as it was installed."""
    try:
        return version("expunge")
    except PackageNotFoundError:  # run from a checkout that is not
        return "unknown"
