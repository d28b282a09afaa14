"""Random streams differ by seed, purpose and indices, and by nothing else."""

from __future__ import annotations

from itertools import combinations

import torch

from fedbench.core import Purpose, derive_seed, numpy_stream, permutation, torch_stream


def test_every_seed_purpose_and_index_has_its_own_stream() -> None:
    keys = [(seed, purpose, index) for seed in (0, 1) for purpose in Purpose for index in ((), (0,), (1,), (0, 1))]
    seeds = {key: derive_seed(key[0], key[1], *key[2]) for key in keys}
    assert [] == [pair for pair in combinations(keys, 2) if seeds[pair[0]] == seeds[pair[1]]]


def test_the_order_of_indices_matters() -> None:
    assert derive_seed(0, Purpose.BATCH_ORDER, 1, 2) != derive_seed(0, Purpose.BATCH_ORDER, 2, 1)


def test_a_stream_is_the_same_each_time_whatever_was_drawn_before() -> None:
    first = permutation(numpy_stream(3, Purpose.BATCH_ORDER, 1, 0), 20).tolist()
    torch.manual_seed(99)
    torch_stream(3, Purpose.INIT, 0).seed()
    assert first == permutation(numpy_stream(3, Purpose.BATCH_ORDER, 1, 0), 20).tolist()


def test_numpy_streams_are_the_same_each_time_and_differ_by_purpose() -> None:
    draw = [numpy_stream(3, purpose, 1).integers(0, 2**31, 4).tolist() for purpose in Purpose]
    assert draw == [numpy_stream(3, purpose, 1).integers(0, 2**31, 4).tolist() for purpose in Purpose]
    assert len(Purpose) == len({tuple(values) for values in draw})


def test_seeds_are_what_a_torch_generator_takes() -> None:
    largest = derive_seed(2**63 - 1, Purpose.INIT, 10**9)
    assert 0 <= largest < 2**63
    torch_stream(2**63 - 1, Purpose.INIT, 10**9)


def test_purposes_keep_their_numbers_since_results_depend_on_them() -> None:
    names = ["INIT", "PARTITION", "CLIENT_SAMPLING", "BATCH_ORDER", "MODEL_NOISE", "AUGMENTATION"]
    assert list(enumerate(names, start=1)) == [(purpose.value, purpose.name) for purpose in Purpose]
