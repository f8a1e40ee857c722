"""What each task learns: against plain definitions, row by row."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from app.contracts.rows import Contract
from app.model.outcomes import mean_loss
from app.model.tasks import (
    BinaryTask,
    MulticlassTask,
    RankingTask,
    RegressionTask,
    Top,
    task_from,
    task_of,
)
from tests.learning_world import CONTRACT

CHANCE = np.random.default_rng(3)
LOGITS_BK1 = torch.from_numpy(CHANCE.normal(size=(40, 3, 1)))
LOGITS_BKC = torch.from_numpy(CHANCE.normal(size=(40, 3, 4)))


def of(**target: object) -> Contract:
    return Contract.model_validate({**CONTRACT.model_dump(), **target})


def test_the_contract_names_the_task_and_the_labels_its_scale() -> None:
    numbers = np.array([1.0, 3.0])
    assert task_of(CONTRACT, numbers) == BinaryTask()
    classes = {"task": "multiclass", "classes": ("a", "b", "c")}
    assert task_of(of(**classes), numbers) == MulticlassTask(num_outputs=3)
    assert task_of(of(task="regression"), numbers) == RegressionTask(mean=2.0, scale=1.0)
    assert task_of(of(task="regression"), np.array([5.0, 5.0])).scale == 1.0
    assert task_of(of(task="ranking", group="depot"), numbers) == RankingTask()


@pytest.mark.parametrize(
    "task",
    [BinaryTask(), MulticlassTask(num_outputs=4), RegressionTask(mean=2, scale=3), RankingTask()],
)
def test_a_task_survives_the_way_through_json(task):
    assert task_from(task.model_dump()) == task


def test_several_classes_lose_what_scikit_learn_says_and_sum_to_one() -> None:
    from sklearn.metrics import log_loss

    task, labels = MulticlassTask(num_outputs=4), CHANCE.integers(0, 4, 40)
    predictions = task.predict(LOGITS_BKC).numpy()
    np.testing.assert_allclose(predictions.sum(1), 1)
    expected = log_loss(labels, predictions, labels=[0, 1, 2, 3])
    assert mean_loss(task, labels, predictions) == pytest.approx(expected)
    one_member = LOGITS_BKC[:, :1]
    loss = task.loss(one_member, torch.from_numpy(task.targets(labels)), None)
    assert float(loss) == pytest.approx(
        log_loss(labels, task.predict(one_member).numpy(), labels=[0, 1, 2, 3])
    )


def test_a_number_is_learned_standardised_and_told_in_its_own_unit() -> None:
    task, labels = RegressionTask(mean=100, scale=20), CHANCE.normal(100, 20, 40)
    perfect = torch.from_numpy(task.targets(labels))[:, None, None]
    np.testing.assert_allclose(task.predict(perfect).numpy(), labels, rtol=1e-5)
    assert float(task.loss(perfect, perfect[:, 0, 0], None)) == 0
    assert mean_loss(task, labels, labels + 20) == pytest.approx(400)


def plain_list_loss(scores: np.ndarray, relevance: np.ndarray, lists: np.ndarray) -> float:
    losses = []
    for one in np.unique(lists):
        inside = lists == one
        if relevance[inside].sum():
            log_share = F.log_softmax(torch.from_numpy(scores[inside]), 0).numpy()
            losses.append(-(relevance[inside] / relevance[inside].sum() * log_share).sum())
    return float(np.mean(losses))


def test_a_ranking_loses_what_its_lists_lose_one_by_one() -> None:
    task, scores = RankingTask(), CHANCE.normal(size=60) * 5
    relevance = CHANCE.integers(0, 3, 60).astype(float)
    lists = CHANCE.integers(100, 112, 60)
    relevance[lists == 101] = 0  # A list that says nothing.
    assert task.list_loss(relevance, scores, lists) == pytest.approx(
        plain_list_loss(scores, relevance, lists)
    )
    # Adding to all scores of a list changes nothing, turning one round does.
    assert task.list_loss(relevance, scores + lists, lists) == pytest.approx(
        task.list_loss(relevance, scores, lists)
    )
    assert task.list_loss(relevance, -scores, lists) != pytest.approx(
        task.list_loss(relevance, scores, lists)
    )


def test_lists_without_a_relevant_row_give_no_gradient_and_no_nan() -> None:
    logits = torch.zeros(5, 2, 1, requires_grad=True)
    loss = RankingTask().loss(logits, torch.zeros(5), torch.tensor([1, 1, 2, 2, 2]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_what_is_watched_lies_between_0_and_1() -> None:
    for task, logits in (
        (BinaryTask(), LOGITS_BK1),
        (MulticlassTask(num_outputs=4), LOGITS_BKC),
        (RegressionTask(mean=5, scale=2), LOGITS_BK1),
        (RankingTask(), LOGITS_BK1),
    ):
        summary = task.summary(task.predict(logits).numpy())
        assert summary.shape == (40,)
        assert ((summary >= 0) & (summary <= 1)).all()


def test_the_top_of_equals_is_the_first_and_k_is_at_least_one() -> None:
    assert Top.of(np.array([1.0, 2.0, 2.0]), 5).places == (1, 2, 0)
    with pytest.raises(ValueError, match="at least 1"):
        Top.of(np.array([1.0]), 0)
