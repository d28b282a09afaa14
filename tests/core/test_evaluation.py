"""What a model is worth on labelled examples, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from fedbench.core import Evaluation, evaluate


class Given(nn.Module):
    """A model whose logits are its inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def confusion(*rows: list[int]) -> Evaluation:
    return Evaluation(0.0, np.array(rows, dtype=np.int64))


LOGITS = torch.tensor([[0.0, math.log(3.0)], [math.log(3.0), 0.0], [0.0, math.log(3.0)], [math.log(3.0), 0.0]])


def test_the_loss_is_the_mean_cross_entropy_in_nats() -> None:
    # probabilities of the true classes: 3/4, 3/4, 1/4, 3/4
    evaluation = evaluate(Given(), LOGITS, torch.tensor([1, 0, 0, 0]))
    assert pytest.approx(-(3 * math.log(3 / 4) + math.log(1 / 4)) / 4) == evaluation.loss


def test_the_loss_of_a_model_in_low_precision_is_summed_in_float32() -> None:
    logits, labels = torch.zeros(1000, 10, dtype=torch.bfloat16), torch.zeros(1000, dtype=torch.int64)
    assert pytest.approx(math.log(10), rel=1e-6) == evaluate(Given(), logits, labels).loss  # bfloat16: 2.25


def test_log_probabilities_have_the_loss_of_their_logits() -> None:
    labels = torch.tensor([1, 0, 0, 0])
    as_logits = evaluate(Given(), LOGITS, labels).loss
    assert pytest.approx(as_logits) == evaluate(Given(), torch.log_softmax(LOGITS, 1), labels).loss


def test_rows_of_the_confusion_matrix_are_true_classes_and_columns_are_predictions() -> None:
    evaluation = evaluate(Given(), LOGITS, torch.tensor([1, 0, 0, 0]))  # predictions 1, 0, 1, 0
    assert [[2, 1], [0, 1]] == evaluation.confusion.tolist()
    assert (4, 3, 0.75) == (evaluation.num_examples, evaluation.num_correct, evaluation.accuracy)


def test_every_example_counts_once_whatever_the_size_of_the_set() -> None:
    # 601 examples are two full evaluation batches of 250 and one of 101
    labels = torch.arange(601) % 3
    logits = nn.functional.one_hot((labels + (torch.arange(601) >= 600)) % 3, 3).float()  # the last one is wrong
    evaluation = evaluate(Given(), logits, labels)
    assert (601, 600) == (evaluation.num_examples, evaluation.num_correct)
    right, wrong = math.log(math.e + 2) - 1, math.log(math.e + 2)
    assert pytest.approx((600 * right + wrong) / 601, rel=1e-6) == evaluation.loss


def test_a_class_without_examples_has_a_row_of_zeros_and_no_recall() -> None:
    evaluation = confusion([3, 1, 0], [0, 0, 0], [1, 0, 1])
    assert [0.75, 0.5] == [evaluation.per_class_recall[0], evaluation.per_class_recall[2]]
    assert math.isnan(evaluation.per_class_recall[1])
    assert 0.625 == evaluation.balanced_accuracy  # the mean of 3/4 and 1/2; the empty class does not count


def test_balanced_accuracy_weighs_classes_alike() -> None:
    evaluation = confusion([90, 0], [10, 0])
    assert (0.9, 0.5) == (evaluation.accuracy, evaluation.balanced_accuracy)


def test_the_majority_rate_is_the_share_of_the_largest_class() -> None:
    assert 0.6 == confusion([1, 2, 0], [0, 0, 1], [4, 0, 2]).majority_rate


def test_predicted_classes_are_those_named_at_least_once() -> None:
    assert [0, 2] == confusion([1, 0, 0], [0, 0, 1], [4, 0, 2]).predicted_classes


def test_the_model_is_measured_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.Dropout(1.0), Given())  # in training mode every logit would be zero, and class 0 named
    model.train()
    assert 1.0 == evaluate(model, LOGITS, torch.tensor([1, 0, 1, 0])).accuracy


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored(training: bool) -> None:
    model = nn.Sequential(Given()).train(training)
    evaluate(model, LOGITS, torch.tensor([1, 0, 1, 0]))
    assert training == model.training


def test_measuring_does_not_change_batch_norm() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2)).train()
    evaluate(model, LOGITS + 5, torch.tensor([1, 0, 1, 0]))
    assert ([0.0, 0.0], 0) == (model[0].running_mean.tolist(), model[0].num_batches_tracked.item())


def test_a_model_that_diverged_has_a_loss_that_is_not_finite() -> None:
    logits = torch.full((4, 2), float("nan"))
    evaluation = evaluate(Given(), logits, torch.tensor([1, 0, 1, 0]))
    assert not math.isfinite(evaluation.loss)
    assert 4 == evaluation.num_examples


def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        evaluate(Given(), LOGITS[:0], torch.tensor([], dtype=torch.int64))


def test_batches_that_are_measured_at_once_have_the_bits_of_one_after_the_other() -> None:
    torch.manual_seed(0)
    model, inputs, labels = nn.Linear(8, 3), torch.randn(1010, 8), torch.randint(3, (1010,))
    alone, at_once = evaluate(model, inputs, labels), evaluate(model, inputs, labels, num_threads=3)
    assert alone.loss == at_once.loss
    assert np.array_equal(alone.confusion, at_once.confusion)


def test_nothing_is_recorded_for_gradients_in_any_thread() -> None:
    class Curious(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output = super().forward(x)
            recorded.append(output.requires_grad)
            return output

    recorded: list[bool] = []
    evaluate(Curious(8, 3), torch.randn(600, 8), torch.zeros(600, dtype=torch.int64), num_threads=2)
    assert [False] * 3 == recorded
