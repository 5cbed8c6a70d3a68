"""Only a few formats are opened, wherever an image is read."""

import re
from pathlib import Path

import pytest
from PIL import Image

from risflow.predict.images import load_image
from stages.data.checks import _decode
from stages.data.formats import open_image
from stages.data.images import read_image
from stages.data.orientation import UPRIGHT
from stages.runtime.errors import InputError
from tests.conftest import ROOT

TAKEN = ("jpg", "png", "webp", "bmp", "tif", "gif", "ppm")
REFUSED = ("eps", "ico", "icns", "tga", "pcx", "im", "sgi", "dds", "jp2")


@pytest.mark.parametrize("ending", TAKEN)
def test_these_formats_are_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image.{ending}"
    Image.new("RGB", (64, 32), (200, 100, 50)).save(path)
    assert read_image(path).size == load_image(path, 10_000).size == (64, 32)
    assert _decode(path) == (64, 32, UPRIGHT)


@pytest.mark.parametrize("name", ["as it is", "image.png"])
@pytest.mark.parametrize("ending", REFUSED)
def test_other_formats_are_not_opened_whatever_their_name(
    tmp_path: Path, ending: str, name: str
) -> None:
    path = tmp_path / f"image.{ending}"
    Image.new("RGB", (64, 64)).save(path)
    path = path.rename(tmp_path / name) if name != "as it is" else path
    for read in (read_image, lambda file: load_image(file, 10_000)):
        with pytest.raises(InputError, match="not a readable image"):
            read(path)
    assert re.match(r"not an image \(it.*\); needed one of JPEG, PNG", str(_decode(path)))


def test_no_other_place_opens_an_image() -> None:
    files = [
        file for folder in ("stages", "irnet", "risflow") for file in (ROOT / folder).rglob("*.py")
    ]
    places = [file.name for file in files if re.search(r"\bImage\.open\(", file.read_text())]
    assert set(places) == {"formats.py"}


def test_the_size_is_checked_before_a_pixel_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (20_000, 10_000)).save(path)  # more than Pillow warns of, too
    limit = Image.MAX_IMAGE_PIXELS

    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    for read in (load_image, read_image):
        with pytest.raises(InputError, match="20000 x 10000 is 200 megapixels; at most 50 are"):
            read(path, 50_000_000)
    with open_image(path, 200_000_000) as opened:
        assert opened.size == (20_000, 10_000)
    assert limit == Image.MAX_IMAGE_PIXELS
