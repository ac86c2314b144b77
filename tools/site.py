"""A hook of MkDocs: the theme would fetch one script, which search needs where pages are opened from a disk, from elsewhere."""

from pathlib import Path
from typing import Any

SHIM = "https://unpkg.com/iframe-worker/shim"
OURS = "assets/iframe-worker.js"


def on_post_build(config: Any) -> None:
    """Every page gets our copy of it. They lie side by side, so that the path is the same on each."""
    for page in Path(config.site_dir).glob("*.html"):
        page.write_text(page.read_text(encoding="utf-8").replace(SHIM, OURS), encoding="utf-8")
