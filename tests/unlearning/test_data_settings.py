"""The settings of the benchmark: each builds a problem that holds together, and spoils and pads what it says."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from benchmarks import problems
from benchmarks.problems import lenet_fashion_10k, lenet_fashion_outliers, vgg_fashion, watched
from benchmarks.problems_from_files import SETTINGS_FROM_FILES, Setting, cifar, network_for
from unlearning.problem import check
from workers.bundled import FASHION_MNIST

fashion = pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is not installed")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("files")
    for name in [*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"]:
        part = {"data": draw.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": draw.integers(0, 10, 20).tolist()}
        (folder / name).write_bytes(pickle.dumps(part))
    for name in ("train", "test"):
        rows = [bytes([3, int(draw.integers(100))]) + draw.bytes(3072) for _ in range(60)]
        (folder / f"{name}.bin").write_bytes(b"".join(rows))
        digits = {"X": draw.integers(0, 256, (32, 32, 3, 60), dtype=np.uint8), "y": draw.integers(1, 11, (60, 1))}
        savemat(folder / f"{name}_32x32.mat", digits)
    np.savez(folder / "purchase.npz", features=draw.integers(0, 2, (60, 600)), labels=draw.integers(1, 101, 60))
    return folder


@pytest.mark.parametrize("setting", SETTINGS_FROM_FILES, ids=lambda setting: setting.name)
def test_settings_from_files(setting: Setting, files: Path) -> None:
    if setting.name == "mlp-purchase100":
        problem = setting.build(files / "purchase.npz", train_size=30, holdout_size=20, test_size=10)
    else:
        narrow = {} if setting.name.startswith("lenet5") else {"width": 4}
        problem = setting.build(files, holdout_size=20, **narrow)
    check(problem)
    inputs, targets = problem.train.batch(np.arange(4))
    assert 0 <= float(inputs.min()) < float(inputs.max()) <= 1
    assert problem.losses(problem.build_model()(inputs), targets).shape == (4,)


def test_what_the_files_cannot_give_is_refused(files: Path) -> None:
    with pytest.raises(ValueError, match="together at most 100"):
        cifar(files)
    with pytest.raises(ValueError, match="net is 'alexnet'"):
        network_for("alexnet", 10, 64, "batch")  # type: ignore[arg-type]  # what is tested


@fashion
def test_outliers_are_what_is_to_be_forgotten_and_nothing_else_changes() -> None:
    spoiled, clean = lenet_fashion_outliers(400, 100, 0.05, 0.1), lenet_fashion_10k(400, 100)
    check(spoiled)
    wrong, noisy = spoiled.forget[: spoiled.mislabelled], spoiled.forget[spoiled.mislabelled :]
    assert (len(wrong), len(noisy)) == (20, 40)
    assert np.flatnonzero(spoiled.train.targets != clean.train.targets).tolist() == wrong.tolist()
    changed = (spoiled.train.inputs != clean.train.inputs).flatten(1).any(dim=1)
    assert np.flatnonzero(changed).tolist() == noisy.tolist()
    assert bool(((spoiled.train.inputs >= 0) & (spoiled.train.inputs <= 1)).all())
    for shares in ((0.0, 0.0), (0.6, 0.4), (-0.1, 0.2)):
        with pytest.raises(ValueError, match="shares"):
            lenet_fashion_outliers(400, 100, *shares)


@fashion
def test_images_are_padded_and_the_test_file_is_not_watched() -> None:
    problem = vgg_fashion(100, 60, 50, width=2)
    check(problem)
    inputs, _ = problem.train.batch(np.arange(100))
    assert inputs.shape == (100, 1, 32, 32)
    assert not bool(inputs[:, :, :2].any())
    assert bool(inputs[:, :, 2:30, 2:30].any())
    assert len(problem.test) == 50
    assert set(watched(problem).test.ids) < set(problem.holdout.ids)
    with pytest.raises(ValueError, match="test_size is 0"):
        vgg_fashion(100, 60, 0)


def test_every_setting_has_a_name_of_its_own() -> None:
    names = [setting.name for setting in (*problems.SETTINGS, *SETTINGS_FROM_FILES)]
    assert len(set(names)) == len(names) == 12
