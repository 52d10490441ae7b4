"""Data sets: what loading gives, and what is refused with which words."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vgx.data import DATASETS, Dataset, Split
from vgx.data.mirrors import FILES, PUBLISHED
from vgx.data.sources import Holdout
from vgx.errors import DataError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
SAVE = "numpy.savez(path, train_images=..., train_labels=..., test_images=..., test_labels=...)"


def load(name: str, **options: object) -> Dataset:
    return DATASETS.parse({"name": name, **options}).load()


def small(**changed: np.ndarray) -> dict[str, np.ndarray]:
    """Six training and three test images of 2 x 2 bytes, three classes; `changed` replaces arrays."""
    return {
        "train_images": np.arange(24, dtype=np.uint8).reshape(6, 2, 2),
        "train_labels": np.array([0, 1, 2, 2, 1, 0], np.uint8),
        "test_images": np.arange(100, 112, dtype=np.uint8).reshape(3, 2, 2),
        "test_labels": np.array([2, 0, 1], np.uint8),
    } | changed


def write_idx(path: Path, array: np.ndarray) -> str:
    path.write_bytes(
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )
    return str(path)


def idx_options(directory: Path, **changed: np.ndarray) -> dict[str, str]:
    return {name: write_idx(directory / name, array) for name, array in small(**changed).items()}


def write_mnist_like(directory: Path, **changed: np.ndarray) -> None:
    images = {"train_images": np.zeros((6, 28, 28)), "test_images": np.zeros((3, 28, 28))}
    directory.mkdir(parents=True, exist_ok=True)
    for file, array in zip(FILES, small(**(images | changed)).values(), strict=True):
        write_idx(directory / file, array)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the shared directory nor the user's cache is looked into, unless a test says so."""
    monkeypatch.delenv("VGX_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    """The data set of each registered name, from whatever small files it reads."""
    name = request.param
    if name == "npz":
        np.savez(tmp_path / "a.npz", **small())
        return load(name, path=str(tmp_path / "a.npz"), validation=2)
    if name == "idx":
        return load(name, **idx_options(tmp_path), validation=2)
    if name in PUBLISHED:
        write_mnist_like(tmp_path)
        return load(name, dir=str(tmp_path), validation=2)
    return load(name, validation=2)


every_dataset = pytest.mark.parametrize("example", [part.name for part in DATASETS], indirect=True)


@every_dataset
def test_every_set_has_the_shapes_and_types_it_promises(example: Dataset):
    assert isinstance(example.validation, Split)
    features = example.train.images.shape[1]
    for images, labels in (example.train, example.validation, example.test):
        assert images.shape == (len(labels), features)
        assert images.dtype in (np.uint8, np.float32)
        assert labels.dtype == np.int32
        assert 0 <= labels.min() <= labels.max() < example.classes
    assert len(example.validation.labels) == 2
    assert example.mean.shape == example.std.shape == (features,)
    assert example.mean.dtype == example.std.dtype == np.float32
    assert (example.std > 0).all()
    assert len(example.digest) == 16


@pytest.mark.parametrize("part", list(DATASETS), ids=lambda part: part.name)
def test_every_set_says_what_it_is_and_whose(part):
    assert part.formula
    assert part.summary().endswith(".")
    assert any(word in part.source() for word in ("licence", "CC BY"))


@pytest.mark.parametrize("part", list(DATASETS), ids=lambda part: part.name)
def test_every_schema_stands_alone(part):
    assert "$ref" not in str(part.model_json_schema()["properties"])


def test_no_data_set_needs_jax_or_the_network_library():
    program = "import sys, vgx.data; sys.exit(any(name in sys.modules for name in ('jax', 'pooch', 'requests')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    digits = load("digits")
    np.testing.assert_array_equal(np.concatenate([digits.train.images, digits.test.images]), images)
    np.testing.assert_array_equal(np.concatenate([digits.train.labels, digits.test.labels]), labels)
    assert (len(digits.train.labels), len(digits.test.labels)) == (1437, 360)
    assert (digits.scale, digits.classes, digits.train.images.max()) == (16, 10, 16)


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_mean_and_std_are_numpys_in_float64_over_the_training_split_alone(name: str):
    data = load(name, validation=100, limit=900)
    unit = data.train.images.astype(np.float64) / data.scale
    assert len(unit) == 900
    std = unit.std(axis=0)
    # Both are rounded to float32 once: half a unit in the last place, of values up to 1.
    np.testing.assert_allclose(data.mean, unit.mean(axis=0), rtol=0, atol=6e-8)
    np.testing.assert_allclose(data.std, np.where(std == 0, 1, std), rtol=0, atol=6e-8)
    assert name != "digits" or (std == 0).any()


@pytest.mark.parametrize("value", [0.1, 1e-30, 1e30])
def test_a_pixel_that_never_changes_has_std_1_whatever_its_value(tmp_path: Path, value: float):
    constant = {"train_images": np.full((1000, 3), value), "train_labels": np.arange(1000) % 2}
    np.savez(tmp_path / "a.npz", **small(**constant, test_images=np.zeros((3, 3))))
    data = load("npz", path=str(tmp_path / "a.npz"))
    assert data.std.tolist() == [1, 1, 1]
    np.testing.assert_allclose(data.mean, np.float32(value), rtol=1e-6)


def test_validation_is_held_out_before_the_limit_and_after_the_classes_are_chosen():
    everything = load("digits").train
    kept = np.isin(everything.labels, [7, 3])
    images, labels = everything.images[kept], np.where(everything.labels[kept] == 7, 0, 1)
    n = len(labels)
    for validation, train, held in (
        (20, slice(0, 50), slice(n - 20, n)),
        ({"examples": 20, "from": "last"}, slice(0, 50), slice(n - 20, n)),
        ({"examples": 20, "from": "first"}, slice(20, 70), slice(0, 20)),
    ):
        data = load("digits", classes=[7, 3], validation=validation, limit=50)
        assert data.classes == 2
        assert data.validation is not None
        for split, part in ((data.train, train), (data.validation, held)):
            np.testing.assert_array_equal(split.images, images[part])
            np.testing.assert_array_equal(split.labels, labels[part])
        assert set(data.test.labels) == {0, 1}


def test_holding_nothing_out_leaves_no_validation_split():
    assert load("digits").validation is None
    assert load("digits", validation={"examples": 0, "from": "first"}).validation is None


def test_the_digest_tells_any_change_of_what_is_used():
    options = [{}, {"limit": 1436}, {"validation": 1}, {"classes": list(range(10))}, {"classes": [1, 0]}]
    digests = [load("digits", **option).digest for option in options]
    assert digests[0] == digests[3]  # the same examples, however they were asked for
    assert len(set(digests)) == 4
    assert load("synthetic", seed=1).digest != load("synthetic", seed=2).digest


def test_a_count_and_a_mapping_ask_for_the_same_validation():
    plain, mapping = (
        DATASETS.parse({"name": "digits", "validation": asked}) for asked in (5, {"examples": 5, "from": "last"})
    )
    assert plain == mapping
    assert plain.model_dump()["validation"] == 5
    assert str(plain) == "digits (validation: 5)"


@given(examples=st.integers(0, 1000), start=st.sampled_from(["first", "last"]))
def test_a_holdout_is_read_back_as_it_was_written(examples: int, start: str):
    source = DATASETS.parse({"name": "digits", "validation": {"examples": examples, "from": start}, "classes": [1, 2]})
    assert DATASETS.parse(source.model_dump(mode="json")) == source
    assert DATASETS.parse(source) == source


@pytest.mark.parametrize(
    ("options", "place", "reason"),
    [
        ({"validation": -1}, ("validation",), "give a count of examples, 0 or more, or {examples: 5000, from: first}"),
        (
            {"validation": True},
            ("validation",),
            "give a count of examples, 0 or more, or {examples: 5000, from: first}",
        ),
        ({"validation": "5"}, ("validation",), "give a count of examples, 0 or more, or {examples: 5000, from: first}"),
        ({"validation": {"examples": 5, "from": "end"}}, ("validation", "from"), "Input should be 'first' or 'last'"),
        ({"validation": {"from": "first"}}, ("validation", "examples"), "Field required"),
        ({"limit": 0}, ("limit",), "Input should be greater than or equal to 1"),
        ({"input": "raw"}, ("input",), "Input should be 'unit', 'centered', 'standardized' or 'binary'"),
        ({"classes": [1, 2, 1]}, ("classes",), "1 is named twice"),
        ({"classes": [1]}, ("classes",), "Tuple should have at least 2 items after validation, not 1"),
        ({"classes": [0, "1", 2]}, ("classes", 1), "Input should be a valid integer"),
        ({"classes": [0, 1.0, 2]}, ("classes", 1), "Input should be a valid integer"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_file_is_read(options, place, reason):
    with pytest.raises(ValidationError) as error:
        DATASETS.parse({"name": "digits", **options})
    assert (error.value.errors()[0]["loc"], error.value.errors()[0]["msg"]) == (place, reason)


def test_a_holdout_made_in_python_is_taken_too():
    assert DATASETS["digits"](validation=Holdout(examples=7)).validation.examples == 7


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"validation": 1437}, "validation would hold out 1,437 of 1,437 training examples; hold out fewer"),
        ({"validation": 9999}, "validation would hold out 9,999 of 1,437 training examples; hold out fewer"),
        ({"limit": 1438}, "limit asks for 1,438 training examples, but there are 1,437; lower it or leave it out"),
        (
            {"limit": 1437, "validation": 1},
            "limit asks for 1,437 training examples, but there are 1,436; lower it or leave it out",
        ),
        (
            {"classes": [3, 11]},
            "classes asks for 11, but no training example has that label; there are labels from 0 to 9",
        ),
        (
            {"classes": [-1, 3]},
            "classes asks for -1, but no training example has that label; there are labels from 0 to 9",
        ),
    ],
)
def test_more_than_there_is_is_refused(options, reason):
    with pytest.raises(DataError) as error:
        load("digits", **options)
    assert str(error.value) == f"digits: {reason}"


@pytest.mark.parametrize(
    ("examples", "features", "classes"), [(1, 1, 2), (2000, 64, 10), (4000, 784, 10), (2000, 20, 2)]
)
def test_synthetic_has_any_size_and_is_the_same_each_time(examples: int, features: int, classes: int):
    first, second = (load("synthetic", examples=examples, features=features, classes=classes) for _ in range(2))
    assert first.train.images.shape == (examples, features)
    assert first.test.images.shape == (max(1, examples // 4), features)
    assert (first.classes, first.scale, first.digest) == (classes, 255, second.digest)


def test_synthetic_is_the_same_on_every_machine():
    data = load("synthetic", examples=100, features=5, classes=3, seed=7)
    assert hashlib.sha256(data.train.images.tobytes()).hexdigest()[:16] == "f0b4ed45de68f935"


@pytest.mark.parametrize(("examples", "features", "classes"), [(2000, 64, 10), (4000, 784, 10), (2000, 20, 2)])
def test_synthetic_is_learnable_by_a_linear_model_but_not_trivial(examples: int, features: int, classes: int):
    data = load("synthetic", examples=examples, features=features, classes=classes)
    centres = np.stack([data.train.images[data.train.labels == label].mean(axis=0) for label in range(classes)])
    # The nearest centre is a linear rule: |x - c|^2 less |x|^2, which no class depends on.
    scores = data.test.images @ centres.T - (centres**2).sum(axis=1) / 2
    assert 0.7 < (scores.argmax(axis=1) == data.test.labels).mean() < 0.95


def test_idx_files_give_the_images_flat_and_the_labels_as_they_are(tmp_path: Path):
    data = load("idx", **idx_options(tmp_path))
    np.testing.assert_array_equal(data.train.images, small()["train_images"].reshape(6, 4), strict=True)
    np.testing.assert_array_equal(data.test.labels, [2, 0, 1])
    assert (data.classes, data.scale) == (3, 255)


def test_idx_classes_go_up_to_the_largest_label_of_either_split(tmp_path: Path):
    assert load("idx", **idx_options(tmp_path, test_labels=np.array([0, 200, 1]))).classes == 201


def test_paths_are_relative_to_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_mnist_like(tmp_path / "here")
    np.savez("a.npz", **small())
    assert len(load("mnist", dir="here").train.labels) == 6
    assert len(load("npz", path="a.npz").train.labels) == 6


@pytest.mark.parametrize("names", [ARRAYS, ("x_train", "y_train", "x_test", "y_test")], ids=["own names", "keras's"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_archive_gives_the_images_flat_under_either_names(tmp_path: Path, names, save):
    save(tmp_path / "a.npz", **dict(zip(names, small().values(), strict=True)))
    data = load("npz", path=str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(data.train.images, small()["train_images"].reshape(6, 4), strict=True)
    assert (data.classes, data.scale) == (3, 255)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_are_kept_as_float32_with_scale_1(tmp_path: Path, kind):
    images = np.random.default_rng(0).normal(size=(6, 2, 3, 1)).astype(kind)
    np.savez(tmp_path / "a.npz", **small(train_images=images, test_images=images[:3]))
    data = load("npz", path=str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(data.train.images, images.reshape(6, 6).astype(np.float32), strict=True)
    assert data.scale == 1


BAD_ARRAYS = {
    "more images than labels": (
        {"train_labels": np.zeros(5, np.uint8)},
        "{train_images}: holds 6 images, but {train_labels} holds 5 labels; give two files of one split",
    ),
    "fewer test images than labels": (
        {"test_labels": np.zeros(4, np.uint8)},
        "{test_images}: holds 3 images, but {test_labels} holds 4 labels; give two files of one split",
    ),
    "images given as labels": (
        {"train_labels": np.zeros((6, 2, 2), np.uint8)},
        "{train_labels}: holds an array of shape (6, 2, 2), not labels [n]; is it the file of images, or one-hot?",
    ),
    "labels given as images": (
        {"test_images": np.zeros(3, np.uint8)},
        "{test_images}: holds an array of shape (3,), not images [n, ...]; is it the file of labels?",
    ),
    "test images of another size": (
        {"test_images": np.zeros((3, 2, 3), np.uint8)},
        "{test_images}: its images are 2 x 3, but those of {train_images} are 2 x 2; give two files of one data set",
    ),
}

BAD_IN_NPZ = {
    "no images at all": (
        {"test_images": np.zeros((0, 2, 2), np.uint8), "test_labels": np.zeros(0, np.uint8)},
        "{test_images}: is empty (its shape is (0, 2, 2)); give a file with examples",
    ),
    "images without pixels": (
        {"train_images": np.zeros((6, 0), np.uint8)},
        "{train_images}: is empty (its shape is (6, 0)); give a file with examples",
    ),
    "integer images": (
        {"train_images": np.zeros((6, 2, 2), np.int64)},
        "{train_images}: holds int64 values; save the images as uint8 (0 to 255) or float32",
    ),
    "half-precision images": (
        {"train_images": np.zeros((6, 2, 2), np.float16)},
        "{train_images}: holds float16 values; save the images as uint8 (0 to 255) or float32",
    ),
    "a NaN": (
        {"train_images": np.where(np.arange(24) == 9, np.nan, 0.0).reshape(6, 2, 2)},
        "{train_images}: image 2 has no finite float32 value at pixel 1; mend or drop it",
    ),
    "a number beyond float32": (
        {"train_images": np.where(np.arange(24) == 9, 1e39, 0.0).reshape(6, 2, 2)},
        "{train_images}: image 2 has no finite float32 value at pixel 1; mend or drop it",
    ),
    "two types": (
        {"test_images": np.zeros((3, 2, 2), np.float32)},
        "{test_images}: holds float32 values, but {train_images} holds uint8; save both as one type",
    ),
    "labels as floats": (
        {"train_labels": np.zeros(6)},
        "{train_labels}: holds float64 values; save the labels as integers 0, 1, 2, ...",
    ),
    "labels as words": (
        {"train_labels": np.array(["cat"] * 6)},
        "{train_labels}: holds <U3 values; save the labels as integers 0, 1, 2, ...",
    ),
    "one-hot labels": (
        {"train_labels": np.eye(6, dtype=np.uint8)},
        "{train_labels}: holds an array of shape (6, 6), not labels [n]; is it the file of images, or one-hot?",
    ),
    "a label below 0": (
        {"train_labels": np.array([0, 1, 2, -1, 0, 1])},
        "{train_labels}: label 3 is -1; labels count classes from 0, here to at most 65,535",
    ),
    "a label without bounds": (
        {"test_labels": np.array([0, 2**40, 1])},
        "{test_labels}: label 1 is 1099511627776; labels count classes from 0, here to at most 65,535",
    ),
    "pickled labels": (
        {"train_labels": np.array([None] * 6)},
        "{path}: its array train_labels cannot be read (it holds Python objects or records, not plain numbers);"
        " write the file again",
    ),
}


@pytest.mark.parametrize(("changed", "reason"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_idx_files_that_do_not_belong_together_are_refused(tmp_path: Path, changed, reason: str):
    options = idx_options(tmp_path, **changed)
    with pytest.raises(DataError) as error:
        load("idx", **options)
    assert str(error.value) == reason.format(**options)


@pytest.mark.parametrize(("changed", "reason"), (BAD_ARRAYS | BAD_IN_NPZ).values(), ids=BAD_ARRAYS | BAD_IN_NPZ)
def test_npz_arrays_that_make_no_data_set_are_refused(tmp_path: Path, changed, reason: str):
    path = str(tmp_path / "a.npz")
    np.savez(path, **small(**changed))
    with pytest.raises(DataError) as error:
        load("npz", path=path)
    assert str(error.value) == reason.format(path=path, **{name: f"{path}: {name}" for name in ARRAYS})


def archive_of(directory: Path, **arrays: np.ndarray) -> bytes:
    np.savez(directory / "whole.npz", **arrays)
    return (directory / "whole.npz").read_bytes()


def test_a_file_that_is_no_archive_of_the_four_arrays_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    whole = archive_of(tmp_path, **small())
    no_archive = f"{path}: not an npz archive; write one with {SAVE}"
    table = [
        (b"", no_archive),
        (b"\x93NUMPY", no_archive),
        (whole[: len(whole) // 2], no_archive),
        (
            archive_of(tmp_path, x_train=np.zeros(3), labels=np.zeros(3)),
            f"{path}: holds no array train_labels (keras: y_train), only 'x_train', 'labels'; write it with {SAVE}",
        ),
        (
            archive_of(tmp_path),
            f"{path}: holds no array train_images (keras: x_train), only nothing; write it with {SAVE}",
        ),
        (
            whole.replace(bytes(range(24)), bytes(range(1, 25))),
            f"{path}: its array train_images cannot be read (Bad CRC-32 for file 'train_images.npy');"
            " write the file again",
        ),
    ]
    for contents, reason in table:
        path.write_bytes(contents)
        with pytest.raises(DataError) as error:
            load("npz", path=str(path))
        assert str(error.value) == reason
    path.unlink()
    with pytest.raises(DataError) as error:
        load("npz", path=str(path))
    assert str(error.value) == (
        f"{path}: cannot be read (No such file or directory); check the path, or write the file again"
    )


@given(at=st.integers(0, 10**6), flip=st.integers(1, 255), cut=st.booleans(), packed=st.booleans())
def test_no_damage_to_an_archive_raises_anything_but_a_data_error(tmp_path_factory, at, flip, cut, packed):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    (np.savez_compressed if packed else np.savez)(path, **small())
    contents = bytearray(path.read_bytes())
    contents[at % len(contents)] ^= flip
    path.write_bytes(contents[: at % len(contents)] if cut else contents)
    try:
        load("npz", path=str(path))
    except DataError as error:
        told = str(error)
        assert "\n" not in told


def test_published_files_are_looked_for_here_then_in_the_shared_directory_then_in_the_cache(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("VGX_DATA_DIR", str(tmp_path / "shared"))
    here, shared, cache = tmp_path / "here", tmp_path / "shared" / "kmnist", tmp_path / "cache" / "vgx" / "kmnist"
    with pytest.raises(DataError) as error:
        load("kmnist", dir=str(here))
    assert str(error.value) == (
        f"kmnist: no {', '.join(FILES)} (looked for all four files together, with or without .gz, in {here}, {shared},"
        f" {cache}); run `vgx data get kmnist`, or point VGX_DATA_DIR at a folder with kmnist/ in it"
    )
    for label, place in ((5, cache), (6, shared), (7, here)):
        write_mnist_like(place, test_labels=np.array([0, 0, label]))
        assert load("kmnist", dir=str(here)).test.labels[2] == label
    (here / FILES[3]).unlink()
    assert load("kmnist", dir=str(here)).test.labels[2] == 6


def test_a_gzipped_file_goes_before_an_unpacked_one(tmp_path: Path):
    write_mnist_like(tmp_path)
    labels = tmp_path / FILES[3]
    (tmp_path / f"{FILES[3]}.gz").write_bytes(gzip.compress(labels.read_bytes()[:-1] + b"\7"))
    assert load("mnist", dir=str(tmp_path)).test.labels.tolist() == [2, 0, 7]


@pytest.mark.parametrize(
    ("changed", "file", "reason"),
    [
        (
            {"train_images": np.zeros((6, 32, 32))},
            FILES[0],
            "its images are 32 x 32, but mnist images are 28 x 28; name other data `idx`",
        ),
        (
            {"test_images": np.zeros((3, 784))},
            FILES[2],
            "its images are 784, but mnist images are 28 x 28; name other data `idx`",
        ),
        (
            {"train_labels": np.array([0, 1, 2, 10, 4, 5])},
            FILES[1],
            "label 3 is 10; labels count classes from 0, here to at most 9",
        ),
        (
            {"train_images": np.zeros(6)},
            FILES[0],
            "holds an array of shape (6,), not images [n, ...]; is it the file of labels?",
        ),
        (
            {"test_labels": np.zeros((3, 28, 28))},
            FILES[3],
            "holds an array of shape (3, 28, 28), not labels [n]; is it the file of images, or one-hot?",
        ),
    ],
)
def test_files_that_cannot_be_mnists_are_refused(tmp_path: Path, changed, file: str, reason: str):
    write_mnist_like(tmp_path, **changed)
    with pytest.raises(DataError) as error:
        load("mnist", dir=str(tmp_path))
    assert str(error.value) == f"{tmp_path / file}: {reason}"


def test_choosing_classes_that_no_test_example_has_is_refused(tmp_path: Path):
    options = idx_options(tmp_path, test_labels=np.array([0, 0, 0]))
    with pytest.raises(DataError, match=r"^idx: no test example has a label in classes \[2, 1\]; choose others$"):
        load("idx", **options, classes=[2, 1])


MNIST = Path(os.environ.get("VGX_DATA_DIR", "")) / "mnist"
needs_mnist = pytest.mark.skipif("VGX_DATA_DIR" not in os.environ, reason="VGX_DATA_DIR is not set")


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load("mnist", dir=str(MNIST))


@needs_mnist
def test_mnist_is_the_published_one(mnist: Dataset):
    headers = [struct.pack(">4I", 2051, n, 28, 28) for n in (60_000, 10_000)]
    images = [hashlib.sha256(h + s.images.tobytes()) for h, s in zip(headers, (mnist.train, mnist.test), strict=True)]
    headers = [struct.pack(">2I", 2049, n) for n in (60_000, 10_000)]
    labels = [
        hashlib.sha256(h + s.labels.astype(np.uint8).tobytes())
        for h, s in zip(headers, (mnist.train, mnist.test), strict=True)
    ]
    found = (images[0], labels[0], images[1], labels[1])
    assert tuple(sha.hexdigest() for sha in found) == PUBLISHED["mnist"].sha256


@needs_mnist
def test_mnist_has_as_many_of_each_digit_as_its_authors_say(mnist: Dataset):
    assert np.bincount(mnist.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (mnist.scale, mnist.classes) == (255, 10)


@needs_mnist
def test_standardized_mnist_has_numpys_mean_and_std_in_float64(mnist: Dataset):
    mean, std = np.zeros(784), np.ones(784)
    for pixel in range(784):  # a column at a time, so that the float64 copy is 0.5 MB and not 376
        column = mnist.train.images[:, pixel].astype(np.float64) / 255
        mean[pixel], std[pixel] = column.mean(), column.std() or 1
    np.testing.assert_allclose(mnist.mean, mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mnist.std, std, rtol=0, atol=1e-6)
