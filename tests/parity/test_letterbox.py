"""Letterbox, its inverse and the evaluation at original size, against the official code.

The goldens were made with OpenCV 4.8 to 4.13, which agree bit for bit.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stages.data import letterbox
from stages.data.images import read_image
from stages.data.resize_modes import RESIZE_MODES
from stages.metrics.iou import intersection_union, iou, precision
from stages.models.layers import QuerySegmentor, probabilities
from tests.parity import query_models
from tests.parity.golden import CASES, cases, load

INTERPOLATION = 5e-7  # float32 sums in another order: 3.6e-7 between OpenCV 4.13 and 4.14
MATRIX = 1e-12


def test_matrices_are_the_official_ones() -> None:
    values = json.loads((CASES / "cris" / "letterbox.json").read_text())
    for row in values["matrices"]:
        forward, back = letterbox.matrices(row["ori_h"], row["ori_w"], row["input_size"])
        np.testing.assert_allclose(forward, row["mat"], atol=MATRIX, rtol=0)
        np.testing.assert_allclose(back, row["mat_inv"], atol=MATRIX, rtol=0)


@pytest.mark.parametrize("path", sorted(CASES.glob("data/letterbox*.npz")), ids=lambda p: p.stem)
def test_images_and_masks_are_warped_bit_for_bit(path: Path) -> None:
    arrays = np.load(path)
    count = sum(name.startswith("img") for name in arrays.files)
    for number in range(count):
        image, mask = arrays[f"img{number}"], arrays[f"mask{number}"]
        size = arrays[f"prob{number}"].shape[0]
        forward, back = letterbox.matrices(*mask.shape, size)
        np.testing.assert_allclose(forward, arrays[f"mat{number}"], atol=MATRIX, rtol=0)
        np.testing.assert_allclose(back, arrays[f"inv{number}"], atol=MATRIX, rtol=0)
        warped = letterbox.letterbox(Image.fromarray(image), size).permute(1, 2, 0)
        np.testing.assert_array_equal(warped, arrays[f"warp_img{number}"])
        soft = letterbox.letterbox_mask(mask > 0, size) * 255
        np.testing.assert_array_equal(soft.round(), arrays[f"warp_mask{number}"])
        small = torch.from_numpy(arrays[f"prob{number}"])[None]
        restored = letterbox.restore(small, mask.shape, outside=0.0)[0]
        np.testing.assert_allclose(restored, arrays[f"back{number}"], atol=INTERPOLATION, rtol=0)


@pytest.mark.parametrize("path", cases("cris", "dataset"), ids=lambda path: path.stem)
def test_the_data_set_gives_the_official_images_and_masks(path: Path) -> None:
    golden = load(path)
    root = CASES / "cris" / "fake_refer"
    for case in golden.meta["cases"]:
        row = json.loads((root / "anns" / "refcoco" / f"{case['split']}.json").read_text())
        row, size, step = row[case["index"]], case["input_size"], case["stride_saved"]
        actual = read_image(next(root.glob(f"images/**/{row['img_name']}")))
        image = letterbox.letterbox(actual, size)[None]
        image = RESIZE_MODES["letterbox"].normalize(image)[0, :, ::step, ::step]
        # One unit of float32 between dividing by a deviation in place or not.
        np.testing.assert_allclose(image, golden.arrays[f"{case['key']}_img"], atol=1e-6, rtol=0)
        if case["mode"] == "train":
            with Image.open(root / "masks" / "refcoco" / f"{row['segment_id']}.png") as opened:
                mask = np.array(opened)
            if set(np.unique(mask)) <= {0, 255}:  # 254 where polygons of one object overlap
                soft = letterbox.letterbox_mask(mask > 0, size)[::step, ::step]
                np.testing.assert_array_equal(soft, golden.arrays[f"{case['key']}_mask"])


def _masks(
    logits: NDArray[np.float32], size: int, shape: tuple[int, int]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """What a segmentor's prediction becomes at original size, and the map it is taken from."""
    threshold = QuerySegmentor.threshold
    square = probabilities(torch.from_numpy(logits), (size, size)) - threshold
    maps = letterbox.restore(square, shape, outside=-threshold).numpy()
    return maps > 0, maps + threshold


def _iou(counts: tuple[int, int]) -> float:
    """The official rule gives 0 where both masks are empty."""
    return float(iou(*counts, empty=0.0))


def _assert_scores(scores: list[float], mean: float, shares: dict[str, float]) -> None:
    """The mean, and the share of scores above each threshold as float32 has it."""
    assert np.mean(scores) == pytest.approx(mean, abs=1e-5)
    for threshold in torch.arange(0.5, 1, 0.1).tolist():
        share = shares[f"Pr@{round(100 * threshold)}"]
        assert precision(scores, threshold) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("path", cases("cris", "eval_s*"), ids=lambda path: path.stem)
def test_cris_evaluation_at_original_size_is_the_official_one(path: Path) -> None:
    golden = load(path)
    size = golden.meta["input_size"]
    near = {tuple(row[:2]): row for row in golden.arrays["test_counts"].tolist()}
    scores: list[float] = []
    firsts: list[float] = []
    for item, shape in enumerate(map(tuple, golden.meta["sizes_hw"])):
        masks, maps = _masks(golden.arrays[f"logits_{item}"], size, shape)
        truth = _unpack(golden.arrays[f"mask_{item}"], shape)
        warped = query_models.probe(torch.from_numpy(maps[0]))[:64]
        theirs = golden.arrays[f"probe_warped_{item}"][:64]
        np.testing.assert_allclose(warped, theirs, atol=1e-5, rtol=0)
        assert (masks[0] != _unpack(golden.arrays[f"predmask_{item}"], shape)).sum() <= (
            near[item, 0][5]
        )
        for sentence, mask in enumerate(masks):
            _, _, intersection, union, area, unsure = near[item, sentence]
            assert abs(int(mask.sum()) - area) <= unsure
            ours = intersection_union(mask, truth)
            assert abs(ours[0] - intersection) <= unsure
            assert abs(ours[1] - union) <= unsure
            scores.append(_iou(ours))
            if sentence == 0:
                firsts.append(scores[-1])
    np.testing.assert_allclose(scores, golden.meta["test_iou"], atol=1e-4)
    np.testing.assert_allclose(firsts, golden.meta["val_iou"], atol=1e-4)
    for kind, ious in (("validate", firsts), ("inference", scores)):
        values = golden.meta[kind]
        _assert_scores(ious, values["IoU"], values)


@pytest.mark.parametrize("path", cases("eval", "detris_engine"), ids=lambda path: path.stem)
def test_detris_evaluation_at_original_size_is_the_official_one(path: Path) -> None:
    golden = load(path)
    for name, values in _seeds(golden.meta):
        seed = name.removeprefix("s")
        logits = golden.arrays[f"logits{seed}"]
        size = logits.shape[-1] * 14 // 4  # a patch has four times four logits
        scores, overlaps, unions = [], 0, 0
        for item in range(len(logits)):
            truth = golden.arrays[f"mask{seed}_{item}"] > 0
            mask = _masks(logits[item], size, truth.shape)[0][0]
            intersection, union = intersection_union(mask, truth)
            scores.append(_iou((intersection, union)))
            overlaps, unions = overlaps + intersection, unions + union
        np.testing.assert_allclose(scores, values["per_item_iou"], atol=1e-4)
        _assert_scores(scores, values["inference_iou"], values["inference_prec"])
        overall = next(line for line in values["log"] if line.startswith("Overall"))
        assert 100 * overlaps / unions == pytest.approx(float(overall.split("=")[1]), abs=0.01)


def _seeds(meta: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, values) for key, values in meta.items() if isinstance(values, dict)]


def _unpack(bits: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = shape
    return np.unpackbits(bits, count=height * width).reshape(shape).astype(bool)
