"""A user's arrays as a dataset: what they must be, and a `Dataset` made of them.

``x_train``, ``y_train``, ``x_test``, ``y_test``
    Inputs (N, ...) and labels (N,), whole numbers from 0.
``names``
    Optional: the classes' names, in the order of the labels.
``groups``
    Optional, (N,): training examples of one group stay together in a validation split.
``columns``
    Optional: metadata of the training examples, by name (N,); a mapping, or an array with named fields.

Inputs of a floating type are given to the model as float32, whole numbers as int64, both as they are. uint8 are images
(N, H, W), (N, H, W, C) or (N, C, H, W): the axis of 1 to 4 entries has the channels. They are scaled to [0, 1] and
normalised per channel by the mean and the standard deviation of the training images.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.datasets.content import assemble
from fedbench.util.errors import DataError
from fedbench.util.text import one_line, show, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("names", "groups", "columns")
SPLIT = "given"  # the only split of such a dataset
MAX_CLASSES = 10_000  # the confusion matrix has the square of it
CHANNELS = range(1, 5)
AT_ONCE = 1 << 24  # values that are looked at together
CLASS_NAME = re.compile(r"\w[\w .:/-]{0,99}")  # as MLflow takes it in a metric's name


@dataclass(frozen=True)
class Header:
    """The type and the shape of an array that is not read."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


Described: TypeAlias = "NDArray[Any] | Header"


def require_keys(where: str, keys: Sequence[str]) -> None:
    """Refuse data that lacks a required array, or has one of an unknown name."""
    there = f"are {', '.join(sorted(map(str, keys)))}" if keys else "is nothing"
    for key in REQUIRED:
        if key not in keys:
            raise DataError(f"{where}: {key} is missing; there must be {', '.join(REQUIRED)}, and there {there}")
    for key in keys:
        if key not in REQUIRED + OPTIONAL:
            raise DataError(f"{where}: {unknown('array', key, REQUIRED + OPTIONAL)}")


def require_shapes(where: str, arrays: Mapping[str, Described]) -> None:
    """Check types and shapes, which the headers in a file tell."""
    for half in ("train", "test"):
        inputs, labels = arrays[f"x_{half}"], arrays[f"y_{half}"]
        _example(where, f"x_{half}", inputs)
        if len(labels.shape) != 1:
            raise DataError(f"{where}: y_{half} has the shape {labels.shape}; it must be (N,), one label an example")
        if inputs.shape[0] != labels.shape[0]:
            raise DataError(f"{where}: x_{half} has {inputs.shape[0]} examples and y_{half} {labels.shape[0]} labels")
    (train, train_type), (test, test_type) = (_example(where, key, arrays[key]) for key in ("x_train", "x_test"))
    if (train, train_type) != (test, test_type):
        raise DataError(
            f"{where}: x_train has examples of {_by(train)} {train_type} and x_test of {_by(test)} {test_type}; "
            "they must be alike"
        )
    if "groups" in arrays and arrays["groups"].shape != arrays["y_train"].shape:
        shape, count = arrays["groups"].shape, arrays["y_train"].shape[0]
        raise DataError(f"{where}: groups has the shape {shape}; it must be ({count},), one group a training example")


def info_of(where: str, arrays: Mapping[str, Described], labels: Mapping[str, Any], source: str = "") -> DatasetInfo:
    """What is known of the dataset from its headers, and from the arrays in `labels`: both labels, and the names."""
    require_shapes(where, arrays)
    shape, kind = _example(where, "x_train", arrays["x_train"])
    y_train, y_test = (_labels(where, key, labels[key]) for key in ("y_train", "y_test"))
    classes = _class_names(where, labels.get("names"), y_train)
    _require_classes(where, y_test, classes, labels.get("names") is not None)
    return DatasetInfo(
        image_shape=shape,
        num_classes=len(classes),
        sizes={SPLIT: (len(y_train), len(y_test))},
        url=source or where,
        dtype="int64" if kind == "int64" else "float32",
    )


def dataset_of(where: str, arrays: Mapping[str, Any], source: str = "") -> tuple[Dataset, TrainingData]:
    """Make a dataset, and its training part, of arrays by their names; `where` names them in errors."""
    training = training_of(where, arrays)
    y_test = _labels(where, "y_test", arrays["y_test"])
    _require_classes(where, y_test, training.class_names, arrays.get("names") is not None)
    test = (_inputs(where, "x_test", arrays["x_test"]), y_test)
    return assemble(where, SPLIT, training, test, source or where), training


def training_of(where: str, arrays: Mapping[str, Any]) -> TrainingData:
    """Make the training part of a dataset; the test arrays are not read."""
    import numpy as np

    labels = _labels(where, "y_train", arrays["y_train"])
    classes = _class_names(where, arrays.get("names"), labels)
    inputs = _inputs(where, "x_train", arrays["x_train"])
    mean, std = _statistics(inputs) if inputs.dtype == np.uint8 else ((), ())
    groups = None if arrays.get("groups") is None else _texts(where, "groups", arrays["groups"], len(labels)).tolist()
    return TrainingData(inputs, labels, mean, std, classes, groups, _columns(where, arrays.get("columns"), len(labels)))


def require_memory(where: str, arrays: Mapping[str, Described]) -> None:
    """Refuse arrays that do not fit into the memory that is free."""
    import psutil

    needed = sum(prod(array.shape) * array.dtype.itemsize for array in arrays.values())
    free = psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"{where}: its arrays take {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free; "
            "take fewer or smaller examples"
        )


def _example(where: str, key: str, array: Described) -> tuple[tuple[int, ...], str]:
    """The shape and the type of an example as a model is given it."""
    shape, kind = array.shape, array.dtype
    if kind.kind not in "fiu":
        raise DataError(f"{where}: {key} is {kind}; inputs are numbers: floating, whole, or uint8 images")
    if len(shape) < 2 or 0 in shape:
        raise DataError(f"{where}: {key} has the shape {shape}; it must be (N, ...), with at least one example")
    if kind != "uint8":
        return shape[1:], "float32" if kind.kind == "f" else "int64"
    if len(shape) == 3:
        return (1, *shape[1:]), "uint8"
    first, last = (shape[axis] in CHANNELS for axis in (1, -1))
    if len(shape) != 4 or first == last:
        why = "which axis has the channels is not clear" if len(shape) == 4 and first else "no axis has 1 to 4 channels"
        raise DataError(
            f"{where}: {key} is uint8 with the shape {shape}, and {why}; images are (N, H, W), (N, H, W, C) or "
            "(N, C, H, W). Make other inputs float32, scaled as the model wants them"
        )
    return (shape[1:] if first else (shape[3], shape[1], shape[2])), "uint8"


def _inputs(where: str, key: str, array: NDArray[Any]) -> NDArray[Any]:
    """Inputs as they are kept: images (N, C, H, W) uint8, or any shape float32 or int64."""
    import numpy as np

    shape, kind = _example(where, key, array)
    if kind == "uint8":
        images = array.reshape(len(array), *shape) if array.ndim == 3 else array
        return _whole(images if images.shape[1:] == shape else np.moveaxis(images, -1, 1))
    with np.errstate(over="ignore"):  # found below
        values = _whole(array.astype(kind, copy=False))
    step = max(AT_ONCE // prod(shape), 1)
    for start in range(0, len(values) if kind == "float32" else 0, step):
        finite = np.isfinite(values[start : start + step]).reshape(-1, prod(shape)).all(axis=1)
        if not finite.all():
            example = start + int(np.argmin(finite))
            raise DataError(f"{where}: {key}: example {example} has a value that is NaN or infinite; remove or fill it")
    return values


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    """The array as PyTorch takes it: contiguous, and writable, which one that is mapped from a file may not be."""
    import numpy as np

    contiguous = np.ascontiguousarray(array)
    return contiguous if contiguous.flags.writeable else contiguous.copy()


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of images (N, C, H, W), scaled to [0, 1]; 1 where nothing varies."""
    import numpy as np

    step = max(AT_ONCE // prod(images.shape[1:]), 1)
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)  # of each value
    for start in range(0, len(images), step):
        for channel, found in enumerate(counts):
            found += np.bincount(images[start : start + step, channel].ravel(), minlength=256)
    means, deviations = [], []
    for histogram in counts.tolist():  # whole numbers, so that every machine finds the same
        number, total = sum(histogram), sum(value * count for value, count in enumerate(histogram))
        squares = sum(value**2 * count for value, count in enumerate(histogram))
        means.append(total / number / 255)
        deviations.append(sqrt(number * squares - total**2) / number / 255 or 1.0)
    return tuple(means), tuple(deviations)


def _labels(where: str, key: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as int64, checked by themselves."""
    import numpy as np

    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: {key} is {array.dtype}; number the classes from 0, and name them in names")
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.int64)
    if len(wrong := np.flatnonzero(labels != array)):
        raise DataError(f"{where}: {key}: example {wrong[0]} has the label {array[wrong[0]]}, no whole number")
    if len(wrong := np.flatnonzero(labels < 0)):
        raise DataError(f"{where}: {key}: example {wrong[0]} has the label {labels[wrong[0]]}; labels start at 0")
    return labels


def _class_names(where: str, given: Any, y_train: NDArray[np.int64]) -> tuple[str, ...]:
    """The names of the classes, each of which must have training examples."""
    import numpy as np

    count = int(y_train.max()) + 1
    if given is not None:
        names = tuple(_texts(where, "names", given).tolist())
        for name in names:
            if not CLASS_NAME.fullmatch(name):
                raise DataError(
                    f"{where}: {show(name)} cannot name a class; take letters, digits, spaces and _ . : / -, "
                    "a letter or digit first"
                )
            if names.count(name) > 1:
                raise DataError(f"{where}: two classes have the name {show(name)}; rename one")
        count = len(names)
        _require_classes(where, y_train, names, True, "y_train")
    if count == 1:
        raise DataError(f"{where}: there is one class; a classification has two or more")
    if count > MAX_CLASSES:
        raise DataError(
            f"{where}: y_train has labels up to {count - 1:,}; at most {MAX_CLASSES:,} classes can be measured"
        )
    there = np.bincount(y_train, minlength=count)
    if not there.all():
        name = int(np.argmin(there))
        shown = f"{name}, {names[name]}," if given is not None else name
        raise DataError(f"{where}: class {shown} has no training examples; add some, or number the classes without it")
    return names if given is not None else tuple(map(str, range(count)))


def _require_classes(
    where: str, labels: NDArray[np.int64], classes: Sequence[str], is_named: bool, key: str = "y_test"
) -> None:
    if (largest := int(labels.max())) >= len(classes):
        reason = f"names has {len(classes)} classes" if is_named else "this class has no training examples"
        raise DataError(f"{where}: {key} has the label {largest}, and {reason}; labels are 0 to {len(classes) - 1}")


def _columns(where: str, given: Any, count: int) -> dict[str, NDArray[np.str_]]:
    """Metadata by the column's name."""
    if given is None:
        return {}
    names = given.dtype.names if getattr(getattr(given, "dtype", None), "names", None) else None
    if names is None and not hasattr(given, "keys"):
        raise DataError(f"{where}: columns must be an array with named fields, or a mapping of a name to an array (N,)")
    return {str(name): _texts(where, f"columns: {name}", given[name], count) for name in names or given.keys()}


def _texts(where: str, key: str, given: Any, count: int | None = None) -> NDArray[np.str_]:
    """Values as text, (N,); missing ones (None, NaN) are empty."""
    import numpy as np

    array = np.asarray(given)
    if array.ndim != 1 or (count is not None and len(array) != count):
        wanted = "N" if count is None else count
        raise DataError(f"{where}: {key} has the shape {array.shape}; it must be ({wanted},)")
    if array.dtype.kind == "S":
        try:
            array = np.strings.decode(array, "utf-8")
        except ValueError as error:
            raise DataError(f"{where}: {key} has text that is not UTF-8") from error
    if array.dtype.kind == "U" and array.dtype.itemsize:  # four bytes a character, which NumPy does not check
        codes = np.ascontiguousarray(array).view(f"{array.dtype.str[0]}u4")
        if codes.max(initial=0) > sys.maxunicode:
            raise DataError(f"{where}: {key} has text that is not Unicode")
    return np.array(["" if each is None or each != each else one_line(each) for each in array.tolist()], dtype=np.str_)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
