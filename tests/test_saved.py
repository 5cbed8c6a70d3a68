"""Headers of model files: what they say, and those that version 0.1 wrote."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from irnet.affinity.network import AffinityNetwork, load_affinity
from stages.config.encoders import ClipSource
from stages.config.segmentors import CrisOptions, RelaOptions, TrisOptions
from stages.config.steps import Affinity, Stage1
from stages.models.saved import STAGE1, build, describe, load_model, read_options
from stages.runtime.errors import InputError
from stages.storage.weights import save_weights
from tests.small_clip import CONTEXT, write_description

OLD_CLIP = {"model": "RN50", "weights": None, "output_stride": 32, "context_length": 22}
OLD_TRAINING = {"workers": 4, "save_every": 100, "clip_norm": 0.5}


def of_0_1(kind: str, clip: dict[str, Any], **options: Any) -> dict[str, str]:
    """A header of version 0.1, with a CLIP beside the options."""
    config = {"epochs": 3, **OLD_TRAINING, **options}
    return {"kind": kind, "config": json.dumps(config), "clip": json.dumps(clip)}


def test_a_header_of_version_0_1_holds_the_same_options() -> None:
    clip = ClipSource(model="RN50", context_length=22)
    cris = read_options(of_0_1("cris", OLD_CLIP, model="cris"), Path("a"))
    assert cris == CrisOptions(epochs=3, max_grad_norm=0.5, clip=clip)
    stage1 = read_options(of_0_1(STAGE1, OLD_CLIP), Path("a"))
    assert stage1 == Stage1(epochs=3, max_grad_norm=0.5, clip=clip)
    tris = read_options(of_0_1("tris", OLD_CLIP, model="tris", output_stride=16), Path("a"))
    coarse = clip.model_copy(update={"output_stride": 16})
    assert tris == TrisOptions(epochs=3, max_grad_norm=0.5, clip=coarse)
    rela = read_options(of_0_1("rela", OLD_CLIP, model="rela", text="bert"), Path("a"))
    assert rela == RelaOptions(epochs=3, max_grad_norm=0.5)


def test_a_model_file_of_version_0_1_is_loaded(tmp_path: Path) -> None:
    clip = ClipSource(model=write_description(tmp_path), context_length=CONTEXT)
    config = Stage1(hidden=16, clip=clip)
    network = build(STAGE1, config, pretrained=False)
    old = of_0_1(STAGE1, clip.model_dump(mode="json", exclude={"pretrained"}), hidden=16)
    new, path = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    save_weights(new, network.state_dict(), describe(STAGE1, config))
    save_weights(path, network.state_dict(), old)
    ours, theirs = load_model(new), load_model(path)
    assert ours.config == config
    assert theirs.config == config.model_copy(update={"epochs": 3, "max_grad_norm": 0.5})
    state = theirs.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_an_affinity_network_of_version_0_1_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    config = {"epochs": 3, "backbone": "small", "crop_size": 64, "radius": 4, **OLD_TRAINING}
    about = {"kind": "affinity", "config": json.dumps(config)}
    save_weights(path, AffinityNetwork("small").state_dict(), about)
    kept = Affinity(epochs=3, backbone="small", crop_size=64, radius=4, max_grad_norm=0.5)
    assert load_affinity(path)[1] == kept


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"kind": "cat"}, r"^a.safetensors: holds cat; needed one of tris_stage1, tris, "),
        ({"kind": "cris"}, r"^a.safetensors: the options in its header cannot be read .*anew$"),
        (
            {"kind": "cris", "config": '{"hue": 3}'},
            r"^a.safetensors: hue: no such option; made by another version: train it anew$",
        ),
        ({"kind": "cris", "config": "[3]"}, r"^a.safetensors: the options in its header cannot"),
    ],
)
def test_a_header_that_is_none_is_refused(about: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_options(about, Path("a.safetensors"))
