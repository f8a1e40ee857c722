"""The network: widening, members, dropout."""

import numpy as np
import pytest
import torch
from torch import nn

from app.data.features import Encoded, InputShape
from app.model.members import MemberLinear
from app.model.networks import TabularNetwork, dropout_mask, frozen
from app.model.tasks import BinaryTask, LearningTask, MulticlassTask
from app.sections import NetworkConfig

SHAPE = InputShape(num_bins=(3, 2, 0), has_null=(True, False, True), num_categories=(5, 4))


def make_network(**config: float) -> TabularNetwork:
    torch.manual_seed(0)
    return TabularNetwork(
        NetworkConfig.model_validate({"hidden": 8, "embedding": 3, **config}), SHAPE
    )


def test_positions_widen_to_one_column_a_bin_and_an_indicator_a_null() -> None:
    wide = make_network().widen(torch.tensor([[1.25, 2.0, 0.0], [-1.0, 0.5, -1.0]]))
    assert wide.tolist() == [[1, 0.25, 0, 1, 1, 0, 0], [0, 0, 0, 0.5, 0, 1, 1]]


def test_folded_members_equal_members_written_out() -> None:
    torch.manual_seed(1)
    layer = MemberLinear(6, 4, 3, spread=True)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x_BI = torch.randn(5, 6)
    written = torch.stack(
        [
            (x_BI * layer.factor_KI[k]) @ layer.weight * layer.factor_KO[k] + layer.bias_KO[k]
            for k in range(3)
        ]
    )
    shared = layer.from_shared(x_BI[:, :2], x_BI[:, 2:])
    torch.testing.assert_close(shared.transpose(0, 1), written)
    torch.testing.assert_close(layer(x_BI.expand(3, 5, 6)), written)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("num_members", [1, 4])
def test_every_parameter_learns(num_layers: int, num_members: int) -> None:
    network = make_network(num_layers=num_layers, num_members=num_members)
    numbers, categories = torch.rand(16, 3), torch.randint(0, 4, (16, 2))
    logits = network(numbers, categories)
    assert logits.shape == (16, num_members, 1)
    logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_members_start_apart() -> None:
    logits = make_network(num_members=4, dropout=0.0)(torch.rand(8, 3), torch.zeros(8, 2).long())
    assert (logits.std(dim=1) > 0).all()


def test_categories_of_different_columns_do_not_share_embeddings() -> None:
    network = make_network().eval()
    numbers = torch.zeros(1, 3)
    before = network(numbers, torch.tensor([[2, 2]]))
    with torch.no_grad():
        network.embedding.weight[5 + 2] += 1  # The second column's code 2.
    assert not torch.equal(before, network(numbers, torch.tensor([[2, 2]])))
    with torch.no_grad():
        network.embedding.weight[5 + 2] -= 1
        network.embedding.weight[5 + 3] += 1
    torch.testing.assert_close(before, network(numbers, torch.tensor([[2, 2]])))


def test_the_dropout_mask_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(2)
    mask = dropout_mask(torch.empty(1000, 301), 0.2)
    assert (mask == 0).float().mean().item() == pytest.approx(0.2, abs=0.003)
    assert mask.mean().item() == pytest.approx(1.0, abs=0.004)
    # Neighbouring elements come from one random number: they must not go together.
    dropped = (mask == 0).flatten().float()
    assert (dropped[:-1] * dropped[1:]).mean().item() == pytest.approx(0.04, abs=0.002)


def test_evaluation_draws_nothing() -> None:
    network = make_network(num_members=2).eval()
    rows = torch.rand(4, 3), torch.zeros(4, 2).long()
    assert torch.equal(network(*rows), network(*rows))
    network.train()
    assert not torch.equal(network(*rows), network(*rows))


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("num_members", [1, 4])
@pytest.mark.parametrize("task", [BinaryTask(), MulticlassTask(num_outputs=3)])
def test_a_frozen_network_answers_few_rows_as_the_network_itself(
    num_layers: int, num_members: int, task: LearningTask
) -> None:
    torch.manual_seed(2)
    config = NetworkConfig(hidden=8, embedding=3, num_layers=num_layers, num_members=num_members)
    network = TabularNetwork(config, SHAPE, task)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    chance = np.random.default_rng(3)
    numbers = chance.uniform(-1, 4, (16, 3)).astype(np.float32)
    numbers[::3, 0] = -1.0
    encoded = Encoded(numbers, chance.integers(0, 4, (16, 2)))
    before = network.predict(encoded)
    for size in (1, 2, 16):
        few = Encoded(encoded.numbers[:size], encoded.categories[:size])
        after = frozen(network).predict(few)
        np.testing.assert_allclose(after, before[:size], rtol=0, atol=1e-6)
