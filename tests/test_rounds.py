"""Beyond TRIS: masks go to the objects that they are of, and a segmentor votes for a next round."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from stages import assign_masks, encode_text, vote
from stages.config.contents import Contents
from stages.config.encoders import JudgeSource
from stages.config.load import load_configs
from stages.config.products import Products
from stages.config.steps import Assignment, Prms
from stages.inference.inference import ExpressionPrediction
from stages.runtime.errors import InputError
from stages.storage.masks import area, decode, encode
from stages.storage.tables import ResponseMap, map_row, read_maps, read_samples, write_table
from stages.vote import CELLS, _voted
from tests.conftest import ROOT, few_shapes

JUDGE = JudgeSource(
    model=str(ROOT / "data/placed_clip.json"),
    weights=ROOT / "data/placed_clip.safetensors",
    output_stride=8,
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    return few_shapes(folder, train_images=10, val_images=2, test_images=1)


def mixed_up(samples: Path, folder: Path) -> tuple[Path, Path, pd.DataFrame]:
    """Pseudo masks: each object has the true mask of the next one of its image; flat responses."""
    objects = read_samples(samples).split("train").objects
    given = objects.groupby("image")["mask"].transform(lambda masks: np.roll(masks, 1))
    rows = [
        {"object": object_id, "height": 96, "width": 96, "mask": mask, "score": 1.0}
        for object_id, mask in zip(objects.object, given, strict=True)
    ]
    flat = ResponseMap(0, np.ones((12, 12), np.float32), 96)
    masks, maps = folder / "masks.parquet", folder / "maps.parquet"
    write_table(masks, "masks", rows)
    write_table(maps, "maps", (map_row(int(number), flat, [0.0]) for number in objects.object))
    return masks, maps, objects.set_index("object")


def assigned(
    samples: Path, maps: Path, masks: Path, config: Assignment, regions: Path | None = None
) -> pd.DataFrame:
    """What the objects get; files are written beside the masks."""
    features, result = masks.with_name("text.safetensors"), masks.with_name("assigned.parquet")
    encode_text.run(samples, features, JUDGE)
    assign_masks.run(samples, features, maps, masks, result, JUDGE, config, regions)
    return pd.read_parquet(result)


@pytest.mark.parametrize("method", ["greedy", "hungarian"])
def test_masks_of_other_objects_come_back_to_their_own(
    method: str, samples: Path, tmp_path: Path
) -> None:
    masks, maps, objects = mixed_up(samples, tmp_path)
    config = Assignment.model_validate({"method": method})
    found = assigned(samples, maps, masks, config).set_index("object")
    assert found.index.tolist() == objects.index.tolist()
    right = found["mask"] == objects["mask"].loc[found.index]
    assert right.mean() > 0.9
    assert found.score[right].median() > 0.95
    images = objects.image.loc[found.index]
    assert not found.groupby(images)["mask"].apply(lambda own: own.duplicated().any()).any()


def test_an_object_without_a_candidate_keeps_its_mask_and_is_not_certain(
    samples: Path, tmp_path: Path
) -> None:
    masks, maps, objects = mixed_up(samples, tmp_path)
    table = pd.read_parquet(masks)
    one = table["mask"].groupby(objects.image.to_numpy()).transform("first")
    write_table(masks, "masks", table.assign(mask=one))
    found = assigned(samples, maps, masks, Assignment(method="hungarian"))
    assert found["mask"].tolist() == one.tolist()
    owners = (found.score > 0).groupby(objects.image.to_numpy()).sum()
    assert (owners == 1).all()


@pytest.mark.parametrize("candidates", ["regions", "all"])
def test_an_object_that_no_mask_shows_gets_its_region(
    candidates: str, samples: Path, tmp_path: Path
) -> None:
    """All objects of an image have one mask; the regions are the shapes, whoever's they are."""
    masks, maps, objects = mixed_up(samples, tmp_path)
    table, regions = pd.read_parquet(masks), tmp_path / "regions.parquet"
    one = table["mask"].groupby(objects.image.to_numpy()).transform("first")
    write_table(masks, "masks", table.assign(mask=one))
    rows = [
        {"image": row.image, "height": 96, "width": 96, "mask": row.mask}
        for row in objects.itertuples()
    ]
    write_table(regions, "regions", rows)
    config = Assignment.model_validate({"method": "hungarian", "candidates": candidates})
    found = assigned(samples, maps, masks, config, regions).set_index("object")
    assert (found["mask"] == objects["mask"].loc[found.index]).mean() > 0.9


def test_an_empty_mask_is_never_certain(samples: Path, tmp_path: Path) -> None:
    masks, maps, _ = mixed_up(samples, tmp_path)
    nothing = encode(np.zeros((96, 96), dtype=bool))
    write_table(masks, "masks", pd.read_parquet(masks).assign(mask=nothing))
    found = assigned(samples, maps, masks, Assignment(method="hungarian"))
    assert (found["mask"] == nothing).all() and (found.score == 0).all()


def test_a_segmentor_votes_with_all_expressions_of_an_object(samples: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps.parquet"
    vote.run(samples, ROOT / "data/demo_segmentor.safetensors", maps, Prms(), split="val")
    part = read_samples(samples).split("val")
    votes = read_maps(maps)
    assert sorted(votes) == part.objects.object.tolist()
    overlaps = []
    for row in part.objects.itertuples():
        found = votes[row.object]
        own = part.expressions[part.expressions.object == row.object].expression.tolist()
        assert found.expression in own
        assert found.grid.shape == (CELLS, CELLS) and found.grid.max() <= 1
        # The images have a pixel a cell: votes are whole shares of the expressions.
        shares = found.grid * len(own)
        assert np.allclose(shares, shares.round())
        true = decode(row.mask, 96, 96)
        overlaps.append((found.grid * true).sum() / max(area(row.mask, 96, 96), 1))
    assert np.mean(overlaps) > 0.3


def test_an_expression_without_a_target_has_no_vote() -> None:
    full = np.ones((4, 4), dtype=bool)
    found = [
        ExpressionPrediction(torch.zeros(4, 4), full, (0, 0), 1.0, no_target)
        for no_target in (False, True)
    ]
    assert [float(_voted(prediction).float().mean()) for prediction in found] == [1, 0]


def test_shards_of_votes_and_assigned_masks_are_those_of_one_job(
    samples: Path, tmp_path: Path
) -> None:
    masks, _, _ = mixed_up(samples, tmp_path)
    features = tmp_path / "text.safetensors"
    encode_text.run(samples, features, JUDGE)
    config, method = Prms(batch_size=16), Assignment(method="hungarian")

    def voted_and_assigned(shards: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        votes, given = [], []
        for shard in range(shards):
            maps, own, result = (
                tmp_path / f"{name}-{shard}-of-{shards}.parquet"
                for name in ("maps", "masks", "assigned")
            )
            model = ROOT / "data/demo_segmentor.safetensors"
            vote.run(samples, model, maps, config, shard=shard, shards=shards)
            objects = pd.read_parquet(maps, columns=["object"]).object
            rows = pd.read_parquet(masks).set_index("object").loc[objects].reset_index()
            write_table(own, "masks", rows.to_dict("records"))
            assign_masks.run(samples, features, maps, own, result, JUDGE, method)
            votes.append(pd.read_parquet(maps))
            given.append(pd.read_parquet(result))
        return pd.concat(votes, ignore_index=True), pd.concat(given, ignore_index=True)

    for whole, parts in zip(voted_and_assigned(1), voted_and_assigned(3), strict=True):
        pd.testing.assert_frame_equal(parts, whole)
        assert not whole.empty


def configs_with(folder: Path, **experiments: Any) -> Path:
    """The experiments of RefShapes from text, and others."""
    (folder / "datasets").mkdir(parents=True)
    (folder / "experiments").mkdir()
    for name in ("config.yaml", "datasets/refshapes.yaml", "datasets/refcoco.yaml"):
        (folder / name).write_text((ROOT / "configs" / name).read_text())
    (folder / "config.yaml").write_text("results: results\ndemo: first\n")
    (folder / "downloads.yaml").write_text("{}")
    for name, options in experiments.items():
        (folder / "experiments" / f"{name}.yaml").write_text(yaml.safe_dump(options))
    return folder


FIRST = {"dataset": "refshapes", "assignment": {"method": "hungarian"}}


def test_a_next_round_has_votes_in_place_of_stage_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    second = {"base": "first", "supervision": "votes:first"}
    third = {"base": "first", "supervision": "votes:second"}
    folder = configs_with(tmp_path / "configs", first=FIRST, second=second, third=third)
    configs = load_configs(folder)
    products = Products(configs, tmp_path / "results", Contents(tmp_path / "results"))
    first, again, last = (products.of_experiment(name) for name in ("first", "second", "third"))
    assert {"stage1", "maps", "assigned"} <= first.keys() and "votes" not in first
    assert {"votes", "labels", "affinity", "pseudo_masks", "assigned"} <= again.keys()
    assert not {"stage1", "maps", "predictions/stage1"} & again.keys()
    assert again["votes"].source("segmentor") == first["segmentor"]
    assert last["votes"].source("segmentor") == again["segmentor"]
    assert again["segmentor"].source("assigned") == again["assigned"]
    assert configs.behind("third") == ["third", "second", "first"]


def test_regions_are_found_where_they_are_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the walk alone: what else is said of pseudo masks does not change them."""
    monkeypatch.chdir(ROOT)
    options = {"method": "hungarian", "candidates": "all"}
    other = {"background_threshold": 0.4, "instances": False}
    folder = configs_with(
        tmp_path / "configs",
        first=FIRST,
        regions={"base": "first", "assignment": options},
        lower={"base": "regions", "propagation": other},
        longer={"base": "regions", "propagation": {"steps": 128}},
        unused={"base": "regions", "assignment": {"method": None}},
    )
    products = Products(load_configs(folder), tmp_path, Contents(tmp_path))
    first, regions, lower, longer, unused = (
        products.of_experiment(name) for name in ("first", "regions", "lower", "longer", "unused")
    )
    assert "regions" not in first and "regions" not in unused
    assert regions["assigned"].source("regions") == regions["regions"]
    assert lower["pseudo_masks"] != regions["pseudo_masks"]
    assert lower["regions"] == regions["regions"] != longer["regions"]


@pytest.mark.parametrize(
    ("second", "finding"),
    [
        ({"supervision": "votes:second"}, "second -> second never ends"),
        ({"supervision": "votes:frist"}, "'frist' is not known; did you mean first"),
        ({"supervision": "votes:first", "dataset": "refcoco"}, "first is on data set refshapes"),
    ],
)
def test_what_is_wrong_with_a_next_round_is_told(
    second: dict[str, str], finding: str, tmp_path: Path
) -> None:
    folder = configs_with(tmp_path / "configs", first=FIRST, second={"base": "first", **second})
    with pytest.raises(InputError, match=finding):
        load_configs(folder)
