"""Data sets in the LMDB files of the CRIS family: read, taken out, refused if they are not."""

import pickle
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from PIL import Image

from stages import prepare
from stages.config.datasets import DatasetConfig
from stages.runtime.errors import InputError
from stages.storage.masks import decode
from stages.storage.tables import Samples, read_samples

WIDTH, HEIGHT = 40, 30


def record(folder: Path, name: str, value: int = 255, **changes: Any) -> dict[str, Any]:
    """What folder2lmdb.py writes of one object; overlapping polygons give masks of 254."""
    image, mask = folder / "image.jpg", folder / "mask.png"
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(image)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[5:15, 10:20] = value
    Image.fromarray(pixels).save(mask)
    return {
        "img": image.read_bytes(),
        "mask": mask.read_bytes(),
        "cat": 3,
        "seg_id": 17,
        "img_name": f"{name}.jpg",
        "num_sents": 2,
        "sents": ["the red one", "on the left"],
        **changes,
    }


def write(path: Path, records: list[Any], dump: Any = pickle.dumps) -> None:
    path.parent.mkdir(exist_ok=True)
    with (
        lmdb.open(str(path), subdir=False, map_size=1 << 20) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number, value in enumerate(records):
            transaction.put(str(number).encode(), dump(value))
        transaction.put(b"__len__", dump(len(records)))


def prepared(folder: Path, **options: Any) -> Samples:
    given = {"annotations": folder / "lmdb", "images": folder / "images", **options}
    prepare.run(folder / "out/samples.json", DatasetConfig(source="lmdb", **given))
    return read_samples(folder / "out/samples.json")


def test_records_become_samples_and_their_images_files(tmp_path: Path) -> None:
    write(tmp_path / "lmdb/train.lmdb", [record(tmp_path, "a"), record(tmp_path, "b", 254)])
    write(tmp_path / "lmdb/val.lmdb", [record(tmp_path, "a")])
    samples = prepared(tmp_path)
    assert samples.objects.split.tolist() == ["train", "train", "val"]
    assert samples.objects.name.tolist() == ["17", "17", "17"]
    assert samples.expressions.text.tolist() == 3 * ["the red one", "on the left"]
    assert [decode(rle, HEIGHT, WIDTH).sum() for rle in samples.objects["mask"]] == [100] * 3
    assert [list(box) for boxes in samples.objects.boxes for box in boxes] == [[10, 5, 10, 10]] * 3
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["a.jpg", "b.jpg"]


SERIALIZED = Path(__file__).parent / "parity/cases/etris_lmdb"  # by pa.serialize of pyarrow 11


def serialized(folder: Path, *names: str) -> None:
    """An LMDB of values that pyarrow 11 wrote, as folder2lmdb.py of ETRIS and DETRIS puts them."""
    values = iter((SERIALIZED / f"{name}.bin").read_bytes() for name in names)
    write(folder / "lmdb/train.lmdb", names[:-1], lambda _: next(values))


def test_values_that_pyarrow_serialized_are_read_like_pickles(tmp_path: Path) -> None:
    serialized(tmp_path, "record", "mixed_record", "length")
    samples = prepared(tmp_path)
    assert samples.objects.name.tolist() == ["17", "refcoco_17"]
    assert samples.expressions.text.tolist() == 2 * ["the red one", "on the left"]
    assert [decode(rle, HEIGHT, WIDTH).sum() for rle in samples.objects["mask"]] == [100] * 2
    assert (tmp_path / "images/a.jpg").read_bytes().startswith(b"\xff\xd8")  # a JPEG


def test_an_object_in_a_serialized_value_is_refused_by_its_class(tmp_path: Path) -> None:
    serialized(tmp_path, "object", "object", "length")
    with pytest.raises(InputError, match=r"train\.lmdb: 0 holds no .* .it asks for Hostile"):
        prepared(tmp_path)


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('a hostile pickle was run')",)


@pytest.mark.parametrize(
    ("records", "dump", "message"),
    [
        ([{"img": Hostile()}], pickle.dumps, "0 holds no plain .* .it asks for builtins.exec"),
        (
            [{}],
            lambda value: b"\xff\xff\xff\xff\x10\x00",
            "needed a file of folder2lmdb.py. The same",
        ),
        (
            [{}],
            lambda value: bytes(16) + b"no stream",
            "holds no plain containers .no Arrow stream",
        ),
        (
            [{"img": b""}],
            pickle.dumps,
            r"record 0 has no mask .bytes.; needed a file of folder2lmdb.py",
        ),
    ],
)
def test_other_contents_are_refused(
    tmp_path: Path, records: list[Any], dump: Any, message: str
) -> None:
    write(tmp_path / "lmdb/train.lmdb", records, dump)
    with pytest.raises(InputError, match=message):
        prepared(tmp_path)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lmdb").mkdir()
    with pytest.raises(InputError, match=r"no \.lmdb in it; needed train\.lmdb"):
        prepared(tmp_path)
    (tmp_path / "lmdb/train.lmdb").write_bytes(bytes(8192))
    with pytest.raises(InputError, match=r"train\.lmdb: no LMDB of this version"):
        prepared(tmp_path)
    with pytest.raises(InputError, match="images: not given; needed a folder for the images"):
        prepared(tmp_path, images=None)


def test_a_record_without_picture_is_a_finding(tmp_path: Path) -> None:
    records = [record(tmp_path, "a"), record(tmp_path, "b", img=b"no picture")]
    write(tmp_path / "lmdb/train.lmdb", records)
    with pytest.raises(InputError, match=r"train\.lmdb: record 1: image .*b\.jpg: not an image"):
        prepared(tmp_path)
