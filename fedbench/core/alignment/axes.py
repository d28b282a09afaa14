"""Axes of tensors whose order may be permuted: which of them are one and the same, and which must keep their order."""

from __future__ import annotations

import math
from collections.abc import Iterable


class Axis:
    """An axis of some tensors. Equal axes are united; one may turn out to be the product of others, row by row."""

    def __init__(self, size: int, is_fixed: bool = False) -> None:
        self.size = size
        self._is_fixed = is_fixed
        self._parts: tuple[Axis, ...] | None = None  # what it turned out to be: another one, or several

    @property
    def factors(self) -> tuple[Axis, ...]:
        """The axes that it is the product of; itself if it is no product."""
        return (self,) if self._parts is None else tuple(each for part in self._parts for each in part.factors)

    @property
    def is_fixed(self) -> bool:
        """Whether its order must stay: it is that of pixels, of classes, or of what the model is given."""
        return all(each._is_fixed for each in self.factors)

    def fix(self) -> None:
        """Keep its order from now on."""
        for each in self.factors:
            each._is_fixed = True

    def become(self, parts: Dimension) -> None:
        """Be the product of these, if it is no product yet."""
        if parts == (self,):
            return
        self._parts = parts
        if self._is_fixed:
            self.fix()


Dimension = tuple[Axis, ...]  # of a tensor: a product of axes; of size 1 it has none
Dimensions = tuple[Dimension, ...]  # of a whole tensor


def dimension(size: int, is_fixed: bool = False) -> Dimension:
    """A dimension of its own."""
    return (Axis(size, is_fixed),) if size != 1 else ()


def dimensions(shape: Iterable[int], is_fixed: bool = False) -> Dimensions:
    """Dimensions of their own for all of a shape."""
    return tuple(dimension(size, is_fixed) for size in shape)


def factors(axes: Iterable[Axis]) -> Dimension:
    """What axes turned out to be products of, as far as is known."""
    return tuple(factor for axis in axes for factor in axis.factors)


def fix(axes: Iterable[Axis]) -> None:
    """Keep the order of all of them."""
    for axis in axes:
        axis.fix()


def unite(one: Dimension, other: Dimension) -> None:
    """Let two dimensions of equal size be permuted alike; a `ValueError` if they are products that do not match."""
    one, other = factors(one), factors(other)
    if [each.size for each in one] == [each.size for each in other]:
        for left, right in zip(one, other, strict=True):  # an earlier pair may have united these already
            (root,) = left.factors
            root.become(right.factors)
    elif len(one) == 1:
        one[0].become(other)
    elif len(other) == 1:
        other[0].become(one)
    else:
        raise ValueError("two dimensions are divided differently")


def reshape(given: Dimensions, shape: Iterable[int]) -> Dimensions:
    """The dimensions of a tensor in another shape, its elements being in the same order.

    Raises `ValueError` if an axis would have to be divided where it cannot be.
    """
    left = list(factors(axis for each in given for axis in each))
    made = []
    for size in shape:
        taken: list[Axis] = []
        while (reached := math.prod(each.size for each in taken)) < size:
            axis = left.pop(0)
            if size % (reached * axis.size):  # it is more than is wanted
                wanted = size // reached
                if size % reached or axis.size % wanted:
                    raise ValueError("a dimension is divided across its units")
                axis.become((Axis(wanted), Axis(axis.size // wanted)))
                left[:0] = axis.factors
                continue
            taken.append(axis)
        made.append(tuple(taken))
    return tuple(made)
