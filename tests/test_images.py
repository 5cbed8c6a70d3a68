"""Pictures of every kind become the same RGB."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages.data.images import read_image
from stages.data.orientation import TAG, upright_size
from stages.runtime.errors import InputError

WIDTH, HEIGHT = 12, 8
LOSSY = 12  # of 255, of smooth pictures


@pytest.fixture
def gray() -> NDArray[np.uint8]:
    """A smooth gray picture, which every format can hold."""
    ramp = np.add.outer(np.arange(HEIGHT) * 9, np.arange(WIDTH) * 14)
    return ramp.astype(np.uint8)


def pixels(path: Path) -> NDArray[np.int64]:
    image = read_image(path)
    with Image.open(path) as opened:
        assert upright_size(opened) == image.size
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
@pytest.mark.parametrize("ending", ["png", "webp", "jpg", "tif"])
def test_modes_and_formats_give_the_same_picture(
    gray: NDArray[np.uint8], tmp_path: Path, mode: str, ending: str
) -> None:
    rgb = Image.fromarray(gray).convert("RGB")
    image = rgb.convert("L").convert(mode) if mode in ("LA", "P") else rgb.convert(mode)
    path = tmp_path / f"picture.{ending}"
    try:
        image.save(path, **({"quality": 95} if ending in ("jpg", "webp") else {}))
    except OSError:
        pytest.skip(f"{ending} cannot hold {mode}")
    expected = np.repeat(gray[:, :, None].astype(np.int64), 3, axis=2)
    assert np.abs(pixels(path) - expected).max() <= (LOSSY if ending in ("jpg", "webp") else 0)


def test_sixteen_bits_are_scaled_and_not_cut_off(gray: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert (pixels(tmp_path / "deep.png")[:, :, 0] == gray).all()


def test_transparent_pictures_keep_their_colors(gray: NDArray[np.uint8], tmp_path: Path) -> None:
    image = Image.fromarray(gray).convert("RGBA")
    image.putalpha(0)
    image.save(tmp_path / "clear.png")
    assert (pixels(tmp_path / "clear.png")[:, :, 0] == gray).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_that_lie_on_their_side_are_turned(
    gray: NDArray[np.uint8], tmp_path: Path, orientation: int
) -> None:
    undo = {
        1: gray,
        2: gray[:, ::-1],
        3: gray[::-1, ::-1],
        4: gray[::-1],
        5: gray.T,
        6: gray.T[::-1],  # turned left, for a viewer that turns it right
        7: gray.T[::-1, ::-1],
        8: gray.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[TAG] = orientation
    Image.fromarray(np.ascontiguousarray(undo)).save(tmp_path / "turned.png", exif=exif)
    assert (pixels(tmp_path / "turned.png")[:, :, 0] == gray).all()


def test_a_file_that_is_no_whole_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"a\.jpg: not a readable image"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"b\.jpg: no such image"):
        read_image(tmp_path / "b.jpg")
