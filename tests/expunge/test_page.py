"""docs/client.md: its code is run as it stands, over a real connection, and its tables are held against the code."""

import inspect
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import expunge
from app import config, store
from app.main import app
from expunge import Client
from tests.app import story
from tests.expunge.driver import KEY
from tests.test_docs import rows

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
WEIGHTS = b"the weights of an update" * 100


@pytest.fixture
def address(database: str) -> Iterator[str]:
    """The service on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    config.settings.cache_clear()


def test_the_code_does_what_the_page_says(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXPUNGE_API_URL", address)
    monkeypatch.setenv("EXPUNGE_API_KEY", story.key("admin"))
    monkeypatch.chdir(tmp_path)
    story.dataset()
    model_id = story.trained("lenet")
    names: dict[str, Any] = {}

    exec(CODE[0], names)  # the page's own lines
    assert "2 samples, 1 models" in capsys.readouterr().out
    story.publish(story.closed(model_id), WEIGHTS)
    store.put(WEIGHTS)
    for code in CODE[1:]:
        exec(code, names)
        if "main()" in code:
            assert names["waiting"] == [names["found"].id]
    told = capsys.readouterr().out
    assert "lenet fulfilled 100%" in told
    assert "iau publish" in told
    assert "not promised:" in told
    assert Path("lenet.safetensors").read_bytes() == WEIGHTS
    assert names["overdue"] == []
    assert [batch.kind for batch in names["newest"]] == ["unlearn"]
    assert names["changed"].policy.thresholds.ue == 0.1
    assert "too late:" in told
    assert names["page"].items[0].external_id == "case-2041"
    for name in ("client", "patient", "hasty", "careful"):
        names[name].close()
    names["careful"].http.http.close()


def test_the_table_is_all_there_is() -> None:
    table = rows(PAGE.partition("## All there is")[2])[2:]
    listed = {cells[0].strip("`"): re.findall(r"`(\w+)`", cells[1]) for cells in table}
    with Client("http://service.test", KEY) as client:
        rooms = {name: room for name, room in vars(client).items() if name != "http"}
    assert {name: sorted(methods) for name, methods in listed.items()} == {
        name: sorted(method for method, _ in inspect.getmembers(room, inspect.ismethod) if method[0] != "_")
        for name, room in rooms.items()
    }


def test_every_error_is_on_the_page() -> None:
    table = PAGE.partition("| error | is |")[2].partition("\n\n")[0]
    listed = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert listed == {name for name in expunge.__all__ if name[0].isupper()} - {
        "AsyncClient", "Client", "ExpungeError", "Retry",
    }  # fmt: skip


def test_no_log_line_of_a_real_connection_holds_the_key(address: str, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("httpx", "httpcore.connection", "httpcore.http11", "expunge"):
        caplog.set_level(logging.DEBUG, name)
    key = story.key("admin")
    with Client(address, key) as client:
        assert client.models.all() == []
    assert "/models" in caplog.text
    assert key not in caplog.text
