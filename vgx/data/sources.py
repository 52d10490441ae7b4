"""The data sets a config can name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vgx.data.dataset import (
    BLOCK,
    MAX_CLASSES,
    Dataset,
    Raw,
    Split,
    checked,
    digest,
    extent,
    hold_out,
    limit_to,
    moments,
    require_alike,
    select,
)
from vgx.data.files import MAX_BYTES, require_room
from vgx.data.idx import read_idx_files
from vgx.data.mirrors import locate, places
from vgx.data.npz import read_npz
from vgx.errors import DataError
from vgx.registry import Part, Registry
from vgx.results.sizes import parse_size


class Holdout(BaseModel):
    """Examples held out of the training set; a plain count in YAML means the last ones."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    examples: int = Field(ge=0)
    """How many."""
    start: Literal["first", "last"] = Field(default="last", alias="from")
    """The end of the training set they are taken from."""

    @model_validator(mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        if type(value) is int and value >= 0:
            return {"examples": value}
        if isinstance(value, dict | Holdout):
            return value
        raise PydanticCustomError("holdout", "give a count of examples, 0 or more, or {examples: 5000, from: first}")

    @model_serializer
    def _short(self) -> int | dict[str, Any]:
        return self.examples if self.start == "last" else {"examples": self.examples, "from": self.start}

    def __str__(self) -> str:
        return str(self.examples) if self.start == "last" else f"the {self.start} {self.examples}"


# A part's schema stands alone, so it says what a Holdout is instead of referring to it.
_InlineHoldout = Annotated[
    Holdout, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, Holdout.model_json_schema()]})
]


class Gathered(NamedTuple):
    """All the examples there are to choose from."""

    train: Split
    test: Split
    scale: float
    classes: int


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": "^[0-9.eE+]+ *[kmgtKMGT]?i?[bB]?$"},
            ]
        }
    ),
]
"""Bytes: a number, or a text such as 4GB."""


class Source(Part):
    """Where examples come from, and which of them are used."""

    input: Literal["unit", "centered", "standardized", "binary"] = "unit"
    """What a raw value becomes: u = raw / scale; u - 1/2; (u - mean) / std of its pixel; or 1 where u > 1/2, else 0."""
    validation: _InlineHoldout = Holdout(examples=0)
    """Training examples held out for validation: a count from the end, or {examples: 5000, from: first}."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Train on only the first so many of the examples left after choosing classes and holding out."""
    max_bytes: Size = MAX_BYTES
    """What the examples may take in memory, in bytes or as 4GB; more is refused before it is unpacked."""

    def is_here(self) -> bool:
        """Whether the files of a published set are there to be read, without reading them; other sources say yes."""
        return True

    def gather(self) -> Gathered:
        """Returns the examples before any are held out or left out. Raises DataError when they cannot be had."""
        raise NotImplementedError

    def load(self) -> Dataset:
        """Returns the data set as these options ask for it. Raises DataError naming the file or option in the way."""
        train, test, scale, classes = self.gather()
        train, validation = hold_out(self.name, train, self.validation.examples, self.validation.start)
        if self.limit is not None:
            train = limit_to(self.name, train, self.limit)
        mean, std = moments(train, scale)
        return Dataset(
            self.name, train, validation, test, scale, classes, mean, std, digest(scale, train, validation, test)
        )


DATASETS: Registry[Source] = Registry("dataset")


class ImageSource(Source):
    """Examples read from files."""

    classes: Annotated[tuple[int, ...], Field(strict=False, min_length=2)] | None = None
    """Keep only the examples with these labels, relabelled 0, 1, ... in this order."""

    scale: ClassVar[float] = 255.0
    """The raw byte that `unit` maps to 1."""
    published_classes: ClassVar[int | None] = None
    """How many classes there are, where it is known without looking."""

    @field_validator("classes")
    @classmethod
    def _once_each(cls, classes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        twice = next((label for label, count in Counter(classes).items() if count > 1), None)
        if twice is not None:
            raise PydanticCustomError("classes", "{label} is named twice", {"label": twice})
        return classes

    def read(self) -> tuple[Raw, Raw]:
        """Returns the training and the test examples as they are found."""
        raise NotImplementedError

    def gather(self) -> Gathered:
        raw_train, raw_test = self.read()
        train, test = (checked(raw, self.published_classes) for raw in (raw_train, raw_test))
        require_alike(raw_train, raw_test)
        scale = self.scale if train.images.dtype == np.uint8 else 1.0
        if self.classes is not None:
            return Gathered(*select(self.name, train, test, self.classes), scale, len(self.classes))
        seen = 1 + max(int(split.labels.max()) for split in (train, test))
        return Gathered(train, test, scale, self.published_classes or seen)


@DATASETS.register("digits")
class Digits(ImageSource):
    """Handwritten digits that come with vgx: small, real, and no download.

    Values run from 0 to 16. In the order of the file, the first 1,437 train and the last 360 test.

    Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    doi:10.24432/C50P49, as in scikit-learn's load_digits; CC BY 4.0.
    """

    formula = "1,437 + 360 images, 8 x 8, 10 classes"
    scale = 16.0
    published_classes = 10

    def read(self) -> tuple[Raw, Raw]:
        with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
        require_room(self.name, images.nbytes + labels.nbytes, self.max_bytes)
        train, test = slice(None, -360), slice(-360, None)
        return (
            Raw(images[train], labels[train], "digits: training images", "digits: training labels"),
            Raw(images[test], labels[test], "digits: test images", "digits: test labels"),
        )


class MnistLike(ImageSource):
    """A published set of four IDX files."""

    formula = "60,000 + 10,000 images, 28 x 28, 10 classes"
    published_classes = 10

    dir: str | None = None
    """Look for the files here first, then in $VGX_DATA_DIR/NAME and in the user cache."""

    def is_here(self) -> bool:
        return None not in locate(self.name, self.dir).values()

    def read(self) -> tuple[Raw, Raw]:
        paths = locate(self.name, self.dir)
        missing = [file for file, path in paths.items() if path is None]
        if missing:
            raise DataError(
                f"{self.name}: no {', '.join(missing)} (looked for all four files together, with or without .gz, in"
                f" {', '.join(map(str, places(self.name, self.dir)))}); run `vgx data get {self.name}`, or point"
                f" VGX_DATA_DIR at a folder with {self.name}/ in it"
            )
        train, test = _read_idx_files([path for path in paths.values() if path is not None], self.max_bytes)
        for raw in (train, test):
            if raw.images.ndim > 1 and raw.images.shape[1:] != (28, 28):
                raise DataError(
                    f"{raw.images_name}: its images are {extent(raw.images)}, but {self.name} images are 28 x 28;"
                    " name other data `idx`"
                )
        return train, test


@DATASETS.register("mnist")
class Mnist(MnistLike):
    """Handwritten digits, the classic.

    LeCun, Cortes and Burges 1998, The MNIST database of handwritten digits; CC BY-SA 3.0.
    """


@DATASETS.register("fashion_mnist")
class FashionMnist(MnistLike):
    """Photographs of clothing, harder than digits and of the same form.

    Xiao, Rasul and Vollgraf 2017, Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms,
    arXiv:1708.07747; MIT licence.
    """


@DATASETS.register("kmnist")
class Kmnist(MnistLike):
    """Ten cursive Japanese characters from old books, of the same form as MNIST.

    Clanuwat et al. 2018, Deep Learning for Classical Japanese Literature, arXiv:1812.01718; CC BY-SA 4.0.
    """


@DATASETS.register("idx")
class Idx(ImageSource):
    """Your own images in four IDX files, gzipped or not.

    The format of LeCun, Cortes and Burges 1998, The MNIST database of handwritten digits; the licence is your data's.
    """

    formula = "uint8 images of any size, as many classes as the largest label + 1"

    train_images: str
    """Path, relative to the current directory; `~` is your home."""
    train_labels: str
    """Likewise."""
    test_images: str
    """Likewise."""
    test_labels: str
    """Likewise."""

    def read(self) -> tuple[Raw, Raw]:
        return _read_idx_files(
            [self.train_images, self.train_labels, self.test_images, self.test_labels], self.max_bytes
        )


@DATASETS.register("npz")
class Npz(ImageSource):
    """Your own images in one NumPy archive.

    It holds train_images, train_labels, test_images and test_labels (or x_train, y_train, x_test and y_test): images
    [n, ...] as bytes, or as finite floats that are used as they are, and integer labels [n].

    Harris et al. 2020, Array programming with NumPy, arXiv:2006.10256; the licence is your data's.
    """

    formula = "uint8 or float32 images of any size, as many classes as the largest label + 1"

    path: str
    """Path, relative to the current directory; `~` is your home."""

    def read(self) -> tuple[Raw, Raw]:
        arrays = read_npz(self.path, self.max_bytes)
        names = {word: f"{self.path}: {word}" for word in arrays}
        train, test = (
            Raw(arrays[images], arrays[labels], names[images], names[labels])
            for images, labels in (("train_images", "train_labels"), ("test_images", "test_labels"))
        )
        return train, test


@DATASETS.register("synthetic")
class Synthetic(Source):
    """Clouds of points, one around each class's centre: any size, at once, and learnable but not trivial.

    A byte is 128 + 24 (centre + z), rounded and clipped: z is drawn from N(0, 1) for every feature of every example,
    the centres from N(0, 4 ln(classes) / features), which keeps the task about equally hard at any size. There are
    a quarter as many test examples.

    Made by vgx from `seed` with NumPy's PCG64; free of any licence.
    """

    formula = "raw = 128 + 24 (centre[label] + z), z ~ N(0, 1)"

    examples: int = Field(default=2000, ge=1)
    """How many to train on."""
    features: int = Field(default=64, ge=1)
    """D, the length of an example."""
    classes: int = Field(default=10, ge=2, le=MAX_CLASSES)
    """C, the number of classes, equally many examples of each."""
    seed: int = Field(default=0, ge=0)
    """The same seed gives the same examples."""

    def gather(self) -> Gathered:
        random = np.random.Generator(np.random.PCG64(self.seed))
        n = self.examples + max(1, self.examples // 4)
        size = n * (self.features + 4) + 4 * self.classes * self.features
        require_room(f"{self.name}: {n:,} examples of {self.features:,} features", size, self.max_bytes)
        deviation = math.sqrt(4 * math.log(self.classes) / self.features)
        centres = deviation * random.standard_normal((self.classes, self.features), dtype=np.float32)
        labels = (random.permutation(n) % self.classes).astype(np.int32)
        images = np.empty((n, self.features), np.uint8)
        rows = max(1, BLOCK // self.features)
        for start in range(0, n, rows):
            some = images[start : start + rows]
            points = centres[labels[start : start + rows]] + random.standard_normal(some.shape, dtype=np.float32)
            some[:] = np.clip(np.rint(128 + 24 * points), 0, 255)
        train, test = slice(None, self.examples), slice(self.examples, None)
        return Gathered(Split(images[train], labels[train]), Split(images[test], labels[test]), 255.0, self.classes)


def _read_idx_files(paths: Sequence[str | Path], most: int) -> tuple[Raw, Raw]:
    train_images, train_labels, test_images, test_labels = read_idx_files(paths, most)
    names = [str(path) for path in paths]
    return Raw(train_images, train_labels, *names[:2]), Raw(test_images, test_labels, *names[2:])
