"""The relation network against the official one: weights by name, outputs, losses, gradients."""

import numpy as np
import pytest
import torch
from PIL import Image

from irnet.affinity.images import resize
from irnet.affinity.network import AffinityNetwork, RelationTraining, from_official
from irnet.affinity.pairs import pair_displacement, pair_labels, path_affinity
from stages.config.steps import Affinity
from tests.parity import golden, recipes

# Measured on one thread: outputs and losses equal the golden ones to the last bit, gradients differ
# by up to 1.7e-5 of their norm (the sums over pairs run in another order). One thread against two:
# outputs 1.5e-6 of the largest, losses 9e-8, gradients 2e-6. A few times the larger of the two.
OUTPUT, LOSS, GRADIENT = 1e-5, 1e-6, 5e-5


def official_weights(checkpoint: str, seed: int) -> dict[str, torch.Tensor]:
    """Weights of the recipe under all official names; aliases hold the first name's values."""
    first: dict[str, str] = {}
    weights: dict[str, torch.Tensor] = {}
    for entry in golden.manifest("tris", checkpoint)["entries"]:
        name, shape = entry["key"], tuple(entry["shape"])
        if "float" in entry["dtype"] and our_name(name):
            source = first.setdefault(our_name(name), name)
            if source not in weights:
                weights.update(recipes.state_dict({name: (shape, "float32")}, seed))
            weights[name] = weights[source]
    return weights


def our_name(official: str) -> str:
    """The name here of an official weight; empty for what is not a weight."""
    return next(iter(from_official({official: torch.empty(0)})), "")


def network(seed: int, device: torch.device) -> AffinityNetwork:
    result = AffinityNetwork("resnet50")
    load(result, official_weights("irn_EdgeDisplacement", seed))
    return result.to(device)


def load(result: AffinityNetwork, state: dict[str, torch.Tensor]) -> None:
    missing, unexpected = result.load_state_dict(from_official(state), strict=False)
    assert not unexpected
    # The recipe has no integers.
    assert all(name.endswith("num_batches_tracked") for name in missing)


@pytest.mark.parametrize("checkpoint", ["irn_res50_irn", "irn_EdgeDisplacement"])
def test_every_entry_of_an_official_checkpoint_has_a_place_of_its_shape(checkpoint: str):
    ours = {
        name: list(value.shape) for name, value in AffinityNetwork("resnet50").state_dict().items()
    }
    actual = set()
    for entry in golden.manifest("tris", checkpoint)["entries"]:
        if name := our_name(entry["key"]):
            assert ours[name] == entry["shape"], entry["key"]
            actual.add(name)
    assert actual == set(ours)


@pytest.mark.parametrize("path", golden.cases("tris", "irn_net_*"), ids=lambda path: path.stem)
def test_network_gives_the_official_edges_and_displacements(path, device):
    case = golden.load(path)
    net = network(case.meta["seed"], device).eval()
    for name in [name for name in case.arrays if name.startswith("edge_")]:
        size = name.removeprefix("edge_")
        height, width = map(int, size.split("x"))
        images = recipes.image((2, 3, height, width), case.meta["seed"], f"irn_image_{size}").to(
            device
        )
        images[1] = images[0].flip(-1)
        with torch.no_grad():
            logits, displacement = net(images)
        edges, displacements = net.predict(images[:1])
        edge, first = edges[0], displacements[0]
        for key, value in {
            f"raw_edge_{size}": logits,
            f"raw_dp_{size}": displacement,
            name: edge[None],
            f"dp_{size}": first,
        }.items():
            golden.assert_close(key, value, case, OUTPUT * np.abs(case.arrays[key]).max())


@pytest.mark.parametrize("path", golden.cases("tris", "irn_loss_*"), ids=lambda path: path.stem)
def test_losses_gradients_and_step_are_the_official_ones(path, device):
    case = golden.load(path)
    seed, crop, radius = case.meta["seed"], case.meta["crop"], case.meta["radius"]
    config = Affinity(radius=radius, crop_size=crop, weights=None)
    training = RelationTraining(config).train()
    load(training.network, official_weights("irn_res50_irn", seed))
    training.to(device)
    images = recipes.image((2, 3, crop, crop), seed, "irn_train_image").to(device)
    labels = np.stack(
        [resize(label, 0.25, Image.Resampling.NEAREST) for label in case.arrays["label"]]
    )
    labels = torch.from_numpy(labels.astype(np.int64)).to(device)

    losses = training({"images": images, "labels": labels})
    losses["loss"].backward()

    named = case.meta["losses"]
    for ours, theirs in {
        "affinity_background": "bg_pos_aff",
        "affinity_foreground": "fg_pos_aff",
        "affinity_different": "neg_aff",
        "displacement_foreground": "dp_fg",
        "displacement_background": "dp_bg",
        "loss": "total",
    }.items():
        assert losses[ours].item() == pytest.approx(named[theirs], rel=LOSS), ours
    _check_pairs(case, training, images, labels, radius)
    _check_step(case, training, config)


def _check_pairs(case, training, images, labels, radius):
    """Pair by pair, on the stored part of all pairs."""
    with torch.no_grad():
        logits, displacement = training.network(images)
        affinity = path_affinity(torch.sigmoid(logits[:, 0]), radius).flatten(2)
        difference = pair_displacement(displacement, radius).flatten(3)
    kinds = pair_labels(labels, radius)
    part = (..., slice(None, None, 7), slice(None, None, 13))
    for name, kind in {
        "slice_bg_pos": kinds.background,
        "slice_fg_pos": kinds.foreground,
        "slice_neg": kinds.different,
    }.items():
        golden.assert_close(name, kind.flatten(2)[part], case, 0)
    for name, value in {
        "slice_pos_aff": -torch.log(affinity + 1e-5),
        "slice_neg_aff": -torch.log(1 + 1e-5 - affinity),
        "slice_dp_bg": difference.abs(),
    }.items():
        scale = np.abs(case.arrays[name]).max()
        golden.assert_close(name, value[part], case, OUTPUT * scale)


def _check_step(case, training, config):
    """Gradient norms in the official order, two gradients in full, two steps with one gradient."""
    weights = dict(training.network.named_parameters())
    ours = [our_name(name) for name in case.meta["param_names"]]
    norms = np.array([weights[name].grad.norm().item() for name in ours])
    np.testing.assert_allclose(norms, case.arrays["grad_norm"], rtol=GRADIENT)
    for name in ("fc_edge6.weight", "fc_dp7.3.weight"):
        gradient = weights[our_name(name)].grad
        expected = case.arrays[f"grad/{name}"]
        golden.assert_close(f"grad/{name}", gradient, case, GRADIENT * np.abs(expected).max())
    before = {name: weights[name].detach().clone() for name in ours}
    groups = training.parameter_groups(config)
    optimizer = torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)
    for step in range(2):
        for group, rate in zip(optimizer.param_groups, (0.1, 1.0), strict=True):
            group["lr"] = rate * (1 - step / 100) ** config.power
        optimizer.step()
    moved = np.array([(weights[name] - before[name]).norm().item() for name in ours])
    expected = case.arrays["delta_norm_after_two_steps_same_grad"]
    np.testing.assert_allclose(moved, expected, rtol=GRADIENT)
