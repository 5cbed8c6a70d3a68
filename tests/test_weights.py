"""Files of weights that others made: a hostile one runs nothing and is refused in one line."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from irnet.affinity.backbones import FrozenResNet50
from stages import import_checkpoint
from stages.config.encoders import ClipSource
from stages.config.segmentors import TrisOptions
from stages.runtime.errors import InputError
from stages.storage.weights import read_published

SMALL_CLIP = ClipSource(model="data/small_clip.json")


class Hostile:
    """Makes a file when it is unpickled without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def bare(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def old(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


HOSTILE: dict[str, Callable[[Path, object], None]] = {
    "a bare pickle": bare,
    "a torch file": lambda path, content: torch.save(content, path),
    "a torch file of the old kind": old,
    "an entry beside weights": lambda path, content: torch.save(
        {"state_dict": {"a": torch.ones(2)}, "epoch": content}, path
    ),
}


@pytest.fixture(params=HOSTILE, ids=lambda name: name.replace(" ", "_"))
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "best_model.pth"
    HOSTILE[request.param](path, Hostile(tmp_path / "trace"))
    return path


def import_it(path: Path) -> None:
    import_checkpoint.run(path, path.parent / "model.safetensors", TrisOptions(clip=SMALL_CLIP))


@pytest.mark.parametrize(
    "read", [read_published, import_it, lambda path: FrozenResNet50().load_imagenet(path)]
)
def test_a_hostile_file_runs_nothing(hostile: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(InputError, match=r"best_model\.pth: not weights .*; needed tensors only"):
        read(hostile)
    assert not (hostile.parent / "trace").exists()
    assert not (hostile.parent / "model.safetensors").exists()
