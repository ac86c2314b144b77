"""Activation maps after every method, on images that a small network learns in a moment."""

import base64
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.paper import heat, maps, maps_report
from benchmarks.paper.case import Case
from benchmarks.paper.cells import Cells
from benchmarks.paper.forget import forget_set
from benchmarks.problems import NetProblem
from tests.unlearning.problems import Blobs
from unlearning.activation import activation_maps, map_distances, normalised
from unlearning.problem import Recipe, TensorSamples
from unlearning.training import restore

METHODS = ["iau", "ct", "fine-tune", "amnesiac"]


def network() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 16, 3))


def squares(name: str, count: int, seed: int) -> TensorSamples:
    """A bright square whose place is its class, in noise."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    images = 0.3 * torch.rand((count, 1, 8, 8), generator=generator)
    for number, label in enumerate(targets.tolist()):
        images[number, 0, 2 * label : 2 * label + 3, 2 * label : 2 * label + 3] += 0.7
    return TensorSamples([f"{name}-{i}" for i in range(count)], [None] * count, images, targets)


def case_in(folder: Path, done: list[str], retrains: int = 3) -> Case:
    sets = [squares(name, 60, seed) for seed, name in enumerate(("train", "holdout", "test"))]
    problem = NetProblem(*sets, Recipe("adam", 3e-3, epochs=4, batch_size=16), network)
    return Case(problem, forget_set(problem, 0.2, 0), 0, retrains, Cells(folder, done.append))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Case, list[str]]:
    done: list[str] = []
    case = case_in(tmp_path_factory.mktemp("maps"), done)
    return maps.run([case], METHODS) | {"name": "paper-maps-x"}, case, list(done)


Ran = tuple[dict[str, Any], Case, list[str]]


def test_rows_are_the_bounds_and_the_methods(ran: Ran) -> None:
    record, _, _ = ran
    rows = {row["name"]: row["figures"] for row in record["maps"]}
    assert set(rows) | set(record["missing"]) == {"nothing", "retrain", maps.SAME_SEED, *METHODS}
    assert rows["nothing"]["moved_deleted"]["mean"] == pytest.approx(0, abs=1e-12)
    assert record["layer"] == "2"
    assert record["averaged"] == {"deleted": 12, "retained": 48}


def test_distances_are_to_the_mean_of_all_retrains_but_one(ran: Ran) -> None:
    record, case, _ = ran
    images = maps.images_of(case)
    inputs, targets = case.problem.train.batch(images.deleted)

    def of(state: dict[str, Tensor]) -> Tensor:
        return activation_maps(restore(case.problem, state), inputs, targets)

    original, (a, b, c) = of(case.original["state"]), [of(case.retrained(number)) for number in range(3)]
    unit = [normalised(one) for one in (a, b, c)]
    means = [(unit[1] + unit[2]) / 2, (unit[0] + unit[2]) / 2, (unit[0] + unit[1]) / 2]
    rows = {row["name"]: row["figures"] for row in record["maps"]}
    for place, kind in enumerate(("deleted_cosine", "deleted_l2")):
        found = [float(map_distances(original, mean)[place].mean()) for mean in means]
        assert rows["nothing"][kind]["mean"] == pytest.approx(np.mean(found), rel=1e-5)
        between = [float(map_distances(one, mean)[place].mean()) for one, mean in zip((a, b, c), means, strict=True)]
        assert rows["retrain"][kind]["mean"] == pytest.approx(np.mean(between), rel=1e-5)
    moved = [float(map_distances(one, original)[0].mean()) for one in (a, b, c)]
    assert rows["retrain"]["moved_deleted"]["mean"] == pytest.approx(np.mean(moved), rel=1e-5)


def test_the_two_images_are_of_one_class_and_answered_right(ran: Ran) -> None:
    _, case, _ = ran
    images = maps.images_of(case)
    assert maps.images_of(case).shown == images.shown
    deleted, retained = images.shown
    assert deleted in case.forget
    assert retained in case.retain
    inputs, targets = case.problem.train.batch(np.array(images.shown))
    assert targets.tolist() == [images.label, images.label]
    assert case.parent(inputs).argmax(1).tolist() == targets.tolist()
    assert set(images.deleted) <= set(case.forget)
    assert set(images.retained) <= set(case.retain)


def test_a_run_that_was_stopped_goes_on_and_each_cell_is_counted(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    record, case, done = ran
    assert len(done) == len(set(done))
    assert sum(name.startswith("maps-") for name in done) == 1 + 3 + 1 + len(METHODS) - len(record["missing"])

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr("benchmarks.paper.maps.activation_maps", refused)
    monkeypatch.setattr("benchmarks.paper.case.train", refused)
    again = maps.run([Case(case.problem, case.forget, 0, 3, Cells(case.cells.folder, lambda _: None))], METHODS)
    assert again["maps"] == record["maps"]


def test_what_has_no_maps_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    done: list[str] = []
    blobs = Case(Blobs(), forget_set(Blobs(), 0.1, 0), 0, 2, Cells(tmp_path, done.append))
    with pytest.raises(ValueError, match="MLP has no Conv2d"):
        maps.run([blobs], METHODS)
    with pytest.raises(ValueError, match="at least two retrains"):
        maps.run([case_in(tmp_path, done, retrains=1)], METHODS)
    assert done == []


def test_the_page_and_the_drawing_show_every_row(ran: Ran) -> None:
    record, _, _ = ran
    text = maps_report.section(record, "squares", "how")
    drawn = maps_report.drawing(record, "squares")
    ElementTree.fromstring(drawn)
    for row in record["maps"]:
        assert f"| {maps_report.NAMES.get(row['name'], row['name'])} |" in text
    names = ["image", "original", "mean", "retrain 1", "retrain 2", "retrain 3", "same seed"]
    tiles = len(names) + len(METHODS) - len(record["missing"])
    assert drawn.count("<image ") == 2 * tiles
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", ""), "nothing is loaded from elsewhere"
    assert "a retrain with its seed moved by" in text


def test_a_png_holds_the_pixels_it_was_given() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    data = base64.b64decode(heat.png(pixels).removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        place += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (7, 5, 8, 2, 0, 0, 0)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(5, 22)
    assert np.array_equal(rows[:, 1:].reshape(5, 7, 3), pixels)
    assert not rows[:, 0].any()


def test_heat_is_lighter_where_there_is_more() -> None:
    colours = heat.coloured(np.arange(256, dtype=np.uint8)[None])[0].astype(float)
    assert colours[0].tolist() == list(heat.ANCHORS[0][1])
    assert colours[255].tolist() == list(heat.ANCHORS[-1][1])
    light = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > -1).all()
    assert light[255] > light[128] > light[0]
    assert heat.from_hex("00ff10", (1, 3)).tolist() == [[0, 255, 16]]
