"""`python -m tools.client`: write the generated half of `expunge/`."""

from tools.client.models import source
from tools.client.sync import ROOT, TARGET, sources

(ROOT / "expunge" / "models.py").write_text(source(), encoding="utf-8")
TARGET.mkdir(exist_ok=True)
made = sources()
for path in set(TARGET.glob("*.py")) - set(made):
    path.unlink()
for path, text in made.items():
    path.write_text(text, encoding="utf-8")
