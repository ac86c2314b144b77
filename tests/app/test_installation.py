"""Secrets that an installation on one machine makes up for itself."""

import stat
from pathlib import Path

import pytest

from app import config
from app.installation import Secret, kept, make_files, secret


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EXPUNGE_DATA_DIR", str(tmp_path))
    config.settings.cache_clear()
    return tmp_path


@pytest.mark.parametrize("named", list(Secret))
def test_each_is_made_once_and_for_its_owner_alone(home: Path, named: Secret) -> None:
    assert secret(named) is None
    make_files(home)
    first = secret(named)
    make_files(home)
    assert secret(named) == first
    assert first is not None
    assert len(first) >= 32
    assert stat.S_IMODE(kept(home, named).stat().st_mode) == 0o600
    assert sorted(path.name for path in home.iterdir()) == sorted(Secret)


def test_each_is_another(home: Path) -> None:
    make_files(home)
    assert len({secret(named) for named in Secret}) == len(Secret)


@pytest.mark.parametrize(("named", "variable"), [(Secret.WEBHOOKS, "WEBHOOK"), (Secret.SIGNING, "SIGNING")])
def test_what_the_environment_says_comes_first(
    home: Path, monkeypatch: pytest.MonkeyPatch, named: Secret, variable: str
) -> None:
    make_files(home)
    monkeypatch.setenv(f"EXPUNGE_{variable}_SECRET", "of thirty-two characters or some more")
    config.settings.cache_clear()
    assert secret(named) == b"of thirty-two characters or some more"
