"""Labels, random walk, instances and pseudo masks against the official code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from irnet.affinity.crf import DenseCrf, label_images
from irnet.affinity.images import network_input
from irnet.affinity.instances import group_centers, refine_centers
from irnet.affinity.pairs import directions, path_affinity
from irnet.affinity.pseudo_masks import (
    assign,
    find_relations,
    pseudo_masks,
    split_fragments,
    strongest,
)
from irnet.affinity.walk import random_walk, transition
from stages.config.steps import CELL, Labels, Propagation
from tests.conftest import NEEDS_PYDENSECRF
from tests.parity import golden
from tests.parity.test_irnet_network import OUTPUT, network

# Both walks are float32. Against a float64 walk, as a share of the largest score: the official
# powers of a dense matrix 1e-4, ours 5e-5, so up to 1.5e-4 from each other (measured: 9e-5).
WALK = 2e-4
# Pixels whose score is that close to the threshold may fall on either side (measured: none).
FLIPPED = 5e-4
# Displacements from the network differ by 1e-6, which can round a center to the next cell
# (measured: none).
MOVED = 2e-3


def tensor(values, device):
    return torch.from_numpy(np.asarray(values)).to(device)


@pytest.mark.parametrize("path", golden.cases("tris", "irn_indexing_*"), ids=lambda path: path.stem)
def test_pairs_paths_and_walk_are_the_official_ones(path, device):
    case = golden.load(path)
    edge, x = tensor(case.arrays["edge"], device), tensor(case.arrays["x"], device)
    for radius in (5, 10):
        ends = [(pair.down, pair.right) for pair in directions(radius)]
        golden.assert_close(f"search_dst_r{radius}", ends, case, 0)
    paths = [cell for pair in directions(5) for cell in pair.path]
    groups = [name for name in case.arrays if name.startswith("search_paths_r5_")]
    official = [case.arrays[f"search_paths_r5_{i}"].reshape(-1, 2) for i in range(len(groups))]
    np.testing.assert_array_equal(paths, np.concatenate(official))

    for radius in (5, 10):
        padded = F.pad(edge, (radius, radius, 0, radius), value=1.0)
        affinity = path_affinity(padded, radius).flatten(2)
        # Zero but for the statistics, which were summed in another order.
        golden.assert_close(f"aff_r{radius}", affinity, case, 0 if radius == 5 else 1e-6)

    walked = random_walk(x[None], edge, radius=5, beta=10, steps=256)[0]
    golden.assert_close("rw", walked[:, None], case, WALK * np.abs(case.arrays["rw"]).max())


@pytest.mark.parametrize("path", golden.cases("tris", "irn_irlabel_*"), ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "implementation", ["torch", pytest.param("pydensecrf", marks=NEEDS_PYDENSECRF)]
)
def test_confident_labels_equal_the_official_ones_pixel_by_pixel(path, implementation):
    case = golden.load(path)
    for number in range(len(case.meta["cases"])):
        response = case.arrays[f"cam_{number}"]
        if implementation == "pydensecrf":
            crf = DenseCrf(case.arrays[f"image_{number}"], Labels())
            golden.assert_close(f"crf_fg_{number}", crf.refine(response > 0.3), case, 0)
            golden.assert_close(f"crf_bg_{number}", crf.refine(response > 0.1), case, 0)
        image, maps = case.arrays[f"image_{number}"], torch.from_numpy(response)[None]
        (labels,) = label_images([image], [maps], Labels(), torch.device("cpu"), implementation)
        golden.assert_close(f"label_{number}", labels[0], case, 0)


@pytest.mark.parametrize("path", golden.cases("tris", "irn_multi_*"), ids=lambda path: path.stem)
def test_instances_and_fragments_are_the_official_ones(path, device):
    """From stored edges and displacements; a case without any response gives no numbers."""
    case = golden.load(path)
    edge = tensor(case.arrays["edge"], device)[0]
    displacement = tensor(case.arrays["dp"], device)
    centers = refine_centers(displacement[None], 300)[0]
    golden.assert_close("centroids", centers, case, 0)
    instances = group_centers(golden.numbers(centers), golden.numbers(displacement), 2.5)
    golden.assert_close("instance_label", instances, case, 0)

    response = tensor(case.arrays["cam_image"], device)[None]
    grid = F.interpolate(response[None], edge.shape, mode="bilinear", align_corners=True)[0]
    members = F.one_hot(tensor(instances, device)).permute(2, 0, 1)
    rows = random_walk((grid * members)[None], edge[None], radius=5, beta=10, steps=256)[0]
    expected = case.arrays["rw"]
    golden.assert_close("rw", rows, case, WALK * np.abs(expected).max())

    relative, owner = assign(*strongest(rows, CELL, response.shape[1:]), 0.25)
    fragments = split_fragments(golden.numbers(relative), golden.numbers(owner))
    flipped = (fragments.label > 0) != (case.arrays["pseudo"] > 0)
    assert flipped.mean() <= FLIPPED
    np.testing.assert_allclose(fragments.scores, case.arrays["score"], atol=WALK)
    areas = np.bincount(fragments.label.ravel())[1:]
    np.testing.assert_allclose(areas, case.arrays["segment_area"], atol=FLIPPED * flipped.size)


@pytest.mark.parametrize("path", golden.cases("tris", "irn_insseg_*"), ids=lambda path: path.stem)
def test_pseudo_masks_of_photographs_are_the_official_ones(path, device):
    """From the image to the mask, through the network."""
    case = golden.load(path)
    net = network(case.meta["seed"], device).eval()
    inputs = golden.load(path.with_name(path.name.replace("insseg", "irlabel")))
    config = Propagation()
    for number in range(len(case.meta["cases"])):
        image = inputs.arrays[f"image_{number}"]
        edges, displacements = net.predict(network_input(image, 1)[None].to(device))
        edge, displacement = edges[0], displacements[0]
        scale = np.abs(case.arrays[f"dp_{number}"]).max()
        golden.assert_close(f"edge_{number}", edge, case, OUTPUT)
        golden.assert_close(f"dp_{number}", displacement, case, OUTPUT * scale)
        centers = golden.numbers(refine_centers(displacements, config.refinement_steps)[0])
        assert np.mean(centers != case.arrays[f"centroids_{number}"]) <= MOVED
        (relations,) = find_relations(edges, displacements, config)
        instances = golden.numbers(relations.instances)
        assert np.mean(instances != case.arrays[f"instance_label_{number}"]) <= MOVED
        response = tensor(inputs.arrays[f"cam_{number}"], device)[None]
        ((actual,),) = pseudo_masks([response], [relations], CELL, config)
        flipped = actual.mask != (case.arrays[f"pseudo_{number}"] > 0)
        assert flipped.mean() <= FLIPPED
        assert actual.score == pytest.approx(case.arrays[f"score_{number}"].max(), abs=WALK)


@pytest.mark.parametrize("path", golden.cases("tris", "irn_indexing_*"), ids=lambda path: path.stem)
def test_powers_of_the_transition_matrix_are_the_official_ones(path, device):
    case = golden.load(path)
    matrix = transition(tensor(case.arrays["edge"], device), radius=5, beta=10)
    power = torch.eye(len(case.arrays["trans_diag"]), device=device)
    for _ in range(256):
        power = matrix @ power
    golden.assert_close("trans_diag", power.diagonal(), case, WALK)
    golden.assert_close("trans_row0", power[:, 0], case, WALK * case.arrays["trans_row0"].max())
