"""GRES/ReLA's data and evaluation against the official code: mapper, word pieces, scores."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.data.images import square, square_mask
from stages.data.segmentation import segmentation_mask
from stages.data.wordpiece import WordPieceTokenizer
from stages.metrics.generalized import Outcome, outcome, summarize_generalized
from stages.storage.masks import Mask
from tests.parity.golden import CASES, Golden, load

SIZE = 96
CONTEXT = 20
EVALUATIONS = sorted((CASES / "eval").glob("rela_eval_s*.npz"))
assert EVALUATIONS, f"no rela_eval_s*.npz in {CASES / 'eval'}"
# The published vocabulary is no part of this repository: a test that needs it says where it may be.
VOCABULARY = Path(
    os.environ.get("RISFLOW_BERT_VOCABULARY", CASES.parent / "data/bert-base-uncased-vocab.txt")
)


@pytest.fixture(scope="module")
def mapper() -> Golden:
    return load(CASES / "data/rela_mapper.json")


def _ref(mapper: Golden, number: int) -> dict[str, Any]:
    refs = mapper.meta["grefs(unc).json"]
    wanted = mapper.meta["records"][number]["sentence"]["ref_id"]
    return next(one for one in refs if one["ref_id"] == wanted)


def _masks(mapper: Golden, number: int, height: int, width: int, size: tuple[int, int]) -> Mask:
    """The union of a record's polygons, scaled from (height, width) to `size`."""
    known = {one["id"]: one for one in mapper.meta["instances.json"]["annotations"]}
    union = np.zeros(size, dtype=bool)
    factors = np.array([size[1] / width, size[0] / height])
    for target in _ref(mapper, number)["ann_id"]:
        if target == -1 or known[target]["iscrowd"]:
            continue
        corners = [np.reshape(one, (-1, 2)) * factors for one in known[target]["segmentation"]]
        union |= segmentation_mask([one.ravel().tolist() for one in corners], *size)
    return union


@pytest.mark.parametrize("number", range(5))
def test_images_and_masks_are_the_official_mappers(mapper: Golden, number: int) -> None:
    record = mapper.meta["records"][number]
    image = mapper.arrays[f"img{_ref(mapper, number)['image_id']}"]
    height, width = image.shape[:2]

    pixels = square(Image.fromarray(image), SIZE)

    np.testing.assert_array_equal(pixels, mapper.arrays[f"{record['key']}_image"])
    merged = mapper.arrays[f"{record['key']}_merged"]
    official = np.unpackbits(merged, axis=-1, count=SIZE)[0] > 0
    redrawn = _masks(mapper, number, height, width, (SIZE, SIZE))
    np.testing.assert_array_equal(redrawn, official)
    assert bool(official.any()) == (not record["empty"])
    # The tables keep masks, not polygons: what training sees is a mask that was enlarged, which
    # differs from redrawn polygons along their borders.
    full = _masks(mapper, number, height, width, (height, width))
    assert (square_mask(full, SIZE).numpy() != official).mean() <= 0.03


@pytest.mark.skipif(not VOCABULARY.is_file(), reason="needs bert-base-uncased's vocabulary")
def test_word_pieces_are_the_official_tokenizers(mapper: Golden) -> None:
    tokenizer = WordPieceTokenizer(VOCABULARY, CONTEXT)
    records = mapper.meta["records"]
    texts = [record["sentence"]["raw"] for record in records]

    np.testing.assert_array_equal(tokenizer(texts), [record["tokens"] for record in records])
    assert tokenizer.too_long(texts) == [n for n, text in enumerate(texts) if len(text) > 100]
    for text, ids in mapper.meta["tok_examples"].items():
        assert tokenizer([text])[0, : len(ids)].tolist() == ids
        assert not tokenizer([text])[0, len(ids) :].any()


def _evaluated(path: Path, meta: dict[str, Any], case: str) -> dict[str, list[Outcome]]:
    """Outcomes of a case by the source of its items."""
    arrays = np.load(path)
    rows = np.arange(len(arrays["gt_nt"]))
    if case.endswith("_targets_only"):
        rows = rows[~arrays["gt_nt"]]
    outcomes: dict[str, list[Outcome]] = {}
    for number, item in zip(rows, meta[case]["items"], strict=True):
        probabilities = arrays["ref_seg"][number]
        nothing = arrays["nt_label"][number]
        one = outcome(
            probabilities[1] > probabilities[0],
            arrays["gt"][number, 0],
            no_target=bool(arrays["gt_nt"][number]),
            predicted_no_target=bool(nothing[1] > nothing[0]),
        )
        assert (one.intersection, one.union, one.iou) == (item["I"], item["U"], item["cIoU"])
        assert (one.no_target, one.predicted_no_target) == (item["gt_nt"], item["pred_nt"])
        outcomes.setdefault(item["source"], []).append(one)
    return outcomes


@pytest.mark.parametrize("kind", ["grefcoco", "mixed_sources(odd=refcoco)", "refcoco_targets_only"])
@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.stem)
def test_evaluation_gives_the_official_scores(path: Path, kind: str) -> None:
    meta = load(CASES / "eval/rela_eval.json").meta
    case = f"{path.stem.removeprefix('rela_eval_')}_{kind}"
    by_source = _evaluated(path, meta, case)
    by_source["full"] = [one for part in by_source.values() for one in part]

    for source, official in meta[case]["aggregate"].items():
        scores = summarize_generalized(by_source[source])
        assert 100 * scores.g_iou == pytest.approx(official["gIoU"])
        assert scores.c_iou is not None and scores.precision is not None
        assert 100 * scores.c_iou == pytest.approx(official["cIoU"])
        for at, share in scores.precision.items():
            assert 100 * share == pytest.approx(official[f"Pr@{at}"])
        if scores.num_no_target and "N_acc" in official:  # else the official code gives 0, or none
            assert scores.n_acc == pytest.approx(official["N_acc"])
            assert scores.t_acc == pytest.approx(official["T_acc"])
