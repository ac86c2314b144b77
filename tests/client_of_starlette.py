"""Starlette's client for tests takes httpx2 where it is installed, as OpenLineage's library wants it. Ours stands in for the
service's own httpx in many tests, so it is imported here, before anything else does, as if there were none.
"""

import sys
import warnings

for early in ("starlette.testclient", "fastapi.testclient", "httpx2"):  # a plugin of pytest was faster
    sys.modules.pop(early, None)
sys.modules["httpx2"] = None  # type: ignore[assignment]  # so that importing it fails
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import starlette.testclient  # noqa: F401 - imported for that alone
del sys.modules["httpx2"]
