"""REFER's files: what is read, what is refused, and that reading runs nothing."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.data.refer import open_instances, read_refs
from stages.data.segmentation import Overlap, object_run_lengths, segmentation_mask
from stages.runtime.errors import InputError
from stages.storage.masks import encode
from stages.storage.splits import in_split

SQUARE = [2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0]
SHIFTED = [4.0, 4.0, 8.0, 4.0, 8.0, 8.0, 4.0, 8.0]


class Hostile:
    """Writes a file when it is unpickled without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    refs, trace = tmp_path / "refs(unc).p", tmp_path / "trace"
    refs.write_bytes(pickle.dumps([{"ref_id": Hostile(trace)}], protocol=protocol))
    with pytest.raises(InputError, match=r"refs\(unc\)\.p: cannot be read"):
        list(read_refs(refs))
    assert not trace.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n(cbuiltins\nset\nS'__init__'\ntR.",
        b"ccollections\nOrderedDict\n(tR.",
    ],
)
def test_a_pickle_that_asks_for_any_function_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(text)
    with pytest.raises(InputError, match="it asks for"):
        list(read_refs(tmp_path / "refs.p"))


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1] * 99)[:40]])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(InputError, match=r"refs\.p: cannot be read"):
        list(read_refs(tmp_path / "refs.p"))


def test_something_else_than_a_list_of_refs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "refs.p").write_bytes(pickle.dumps({"refs": []}))
    with pytest.raises(InputError, match="holds dict"):
        list(read_refs(tmp_path / "refs.p"))


def test_a_pickle_of_python_2_is_read_with_its_texts_and_long_numbers(tmp_path: Path) -> None:
    # [{'ref_id': 5L, u'sent': u'caf\xe9', 'ids': set([1])}] by python 2.7, protocol 0.
    content = (
        b"(lp0\n(dp1\nS'ref_id'\np2\nL5L\nsVsent\np3\nVcaf\\u00e9\np4\nsS'ids'\np5\n"
        b"c__builtin__\nset\np6\n((lp7\nI1\natp8\nRp9\nsa."
    )
    (tmp_path / "refs.p").write_bytes(content)
    assert list(read_refs(tmp_path / "refs.p")) == [{"ref_id": 5, "sent": "café", "ids": {1}}]


def test_plain_refs_are_read_whatever_the_protocol(tmp_path: Path) -> None:
    refs = [{"ref_id": 1, "box": [1.5, 2.0], "sentences": [{"sent": "a dog", "none": None}]}]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "refs.p").write_bytes(pickle.dumps(refs, protocol=protocol))
        assert list(read_refs(tmp_path / "refs.p")) == refs


def test_splits_match_by_the_official_rules() -> None:
    assert in_split("testA", "testA", "refer") and in_split("testAB", "testB", "refer")
    assert not in_split("testA", "testB", "refer") and not in_split("testA", "val", "refer")
    assert in_split("testA", "test", "refer") and in_split("test", "test", "refer")
    assert in_split("train", "train", "refer") and not in_split("train2", "train", "refer")


def test_a_pixel_in_two_polygons_is_in_the_mask_but_not_in_the_official_one() -> None:
    both = segmentation_mask([SQUARE, SHIFTED], 10, 10)
    official = segmentation_mask([SQUARE, SHIFTED], 10, 10, "official")
    assert both.sum() == 16 + 16 - 4
    assert official.sum() == 16 + 16 - 2 * 4
    assert both[5, 5] and not official[5, 5]


def test_polygons_and_run_lengths_of_all_kinds_give_the_same_mask() -> None:
    polygon = segmentation_mask([SQUARE], 10, 12)
    compressed = {"size": [10, 12], "counts": encode(polygon)}
    flat = polygon.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.r_[0, flat.astype(int), 0]))
    plain = {"size": [10, 12], "counts": np.diff(np.r_[0, edges, flat.size]).tolist()}
    for segmentation in (compressed, [compressed], plain, [plain]):
        np.testing.assert_array_equal(segmentation_mask(segmentation, 10, 12), polygon)


@pytest.mark.parametrize("overlap", ["union", "official"])
def test_joined_run_lengths_are_those_of_the_drawn_masks(overlap: Overlap) -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        corners = draw.uniform(-6, 30, (3, 8)).round(1).tolist()  # some lie outside
        objects = [corners[:2], corners[2:], {"size": [20, 25], "counts": [100, 7, 393]}]
        drawn = [segmentation_mask(one, 20, 25, overlap) for one in objects]
        for count in (1, 2, 3):
            union = np.any(drawn[:count], axis=0)
            run_lengths = object_run_lengths(objects[:count], 20, 25, overlap)
            assert run_lengths == (encode(union) if union.any() else None)


def test_polygons_of_fewer_than_three_corners_hold_nothing() -> None:
    assert not segmentation_mask([[1.0, 1.0, 5.0, 5.0]], 8, 8).any()
    assert not segmentation_mask([], 8, 8).any()


@pytest.mark.parametrize("wrong", [5, [5], "mask", [{"size": [4, 4]}], [["a"] * 6]])
def test_what_is_no_segmentation_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="segmentation"):
        segmentation_mask(wrong, 8, 8)


def test_run_lengths_of_another_size_are_refused() -> None:
    other = {"size": [4, 5], "counts": encode(np.ones((4, 5), dtype=bool))}
    with pytest.raises(ValueError, match="5 x 4"):
        segmentation_mask(other, 8, 8)


def test_instances_need_their_parts_and_unique_ids(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text("{}")
    opened = open_instances(path, tmp_path)
    with pytest.raises(InputError, match="needed images, annotations and categories"), opened:
        pass
    twice = [{"id": 1}, {"id": 1}]
    path.write_text(json.dumps({"images": twice, "annotations": [], "categories": []}))
    opened = open_instances(path, tmp_path)
    with pytest.raises(InputError, match="1 repeated ids in images"), opened:
        pass


def test_ordered_dictionaries_are_not_plain(tmp_path: Path) -> None:
    (tmp_path / "refs.p").write_bytes(pickle.dumps([OrderedDict(ref_id=1)]))
    with pytest.raises(InputError, match=r"collections\.OrderedDict"):
        list(read_refs(tmp_path / "refs.p"))
