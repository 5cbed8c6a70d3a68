"""CLIP: feature maps, embeddings, and which weights are accepted."""

import json
import warnings
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from stages.backbones.clip import Clip, frozen, load_clip, read_description
from stages.backbones.clip_layers import QuickGELU, fold_norms
from stages.config.encoders import ClipSource
from stages.runtime.errors import InputError
from stages.storage.matching import load_exactly
from stages.storage.weights import read_published
from tests.small_clip import (
    CONTEXT,
    DESCRIPTION,
    SIZE,
    VOCABULARY,
    small_clip,
    small_tokens,
    write_description,
)

ROUNDING = 1e-5

VISION_TRANSFORMER = {
    **DESCRIPTION,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
}


def reference(description: dict, quick_gelu: bool = True) -> open_clip.CLIP:
    return open_clip.CLIP(
        description["embed_dim"],
        vision_cfg=description["vision_cfg"],
        text_cfg=description["text_cfg"],
        quick_gelu=quick_gelu,
    ).eval()


@pytest.mark.parametrize("description", [DESCRIPTION, VISION_TRANSFORMER], ids=["resnet", "vit"])
@torch.no_grad()
def test_features_are_those_of_open_clip(description: dict) -> None:
    theirs = reference(description)
    ours = Clip(description).eval()
    load_exactly(ours, theirs.state_dict(), "open_clip")
    images, tokens = torch.randn(2, 3, ours.image_size, ours.image_size), small_tokens(3)

    image_features, text_features, scale = ours(images, tokens)

    expected_image, expected_text, _ = theirs(images, tokens)
    torch.testing.assert_close(image_features, expected_image, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(text_features, expected_text, atol=ROUNDING, rtol=0)
    assert scale.item() == pytest.approx(1 / 0.07, rel=1e-5)


@pytest.mark.parametrize("description", [DESCRIPTION, VISION_TRANSFORMER], ids=["resnet", "vit"])
def test_a_seed_draws_the_weights_of_open_clip(description: dict) -> None:
    torch.manual_seed(0)
    theirs = reference(description).state_dict()
    torch.manual_seed(0)
    ours = Clip(description).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize(
    ("output_stride", "strides"),
    [(32, (4, 8, 16, 32)), (16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))],
)
def test_the_output_stride_sets_the_resolution_and_needs_no_other_weights(
    output_stride: int, strides: tuple[int, ...]
) -> None:
    clip = small_clip(output_stride)
    load_exactly(clip, small_clip().state_dict(), "stride 32")
    maps = clip.stages(torch.randn(1, 3, SIZE, 2 * SIZE))
    assert [tuple(c.shape[1:]) for c in maps] == [
        (channels, SIZE // stride, 2 * SIZE // stride)
        for channels, stride in zip(clip.channels, strides, strict=True)
    ]


@torch.no_grad()
def test_a_shorter_context_gives_the_same_features() -> None:
    clip = small_clip().eval()
    tokens = small_tokens(2)
    words, sentences = clip.encode_text(tokens)
    cut_words, cut_sentences = clip.encode_text(tokens[:, : CONTEXT - 4])
    torch.testing.assert_close(cut_words, words[:, : CONTEXT - 4], atol=ROUNDING, rtol=0)
    torch.testing.assert_close(cut_sentences, sentences, atol=ROUNDING, rtol=0)


def test_sizes_are_those_of_the_description() -> None:
    clip = small_clip()
    assert clip.channels == (32, 64, 128, 256)
    assert (clip.text_width, clip.embedding, clip.image_size) == (16, 24, SIZE)
    assert Clip(VISION_TRANSFORMER).image_size == 32


def test_a_vision_transformer_has_no_feature_maps() -> None:
    with pytest.raises(InputError, match="needed a residual CLIP"):
        Clip(VISION_TRANSFORMER).stages(torch.randn(1, 3, 32, 32))


def test_a_frozen_clip_learns_nothing_but_passes_gradients_on() -> None:
    clip = frozen(small_clip())
    images = torch.randn(1, 3, SIZE, SIZE, requires_grad=True)
    clip.encode_image(images).sum().backward()
    assert images.grad is not None
    assert not clip.training
    assert all(parameter.grad is None for parameter in clip.parameters())


def test_folded_norms_change_nothing_but_rounding() -> None:
    clip = frozen(small_clip())
    for name, buffer in clip.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 2)
    images = torch.randn(2, 3, SIZE, SIZE)
    expected = clip.encode_image(images)

    fold_norms(clip.residual)

    assert not any(isinstance(module, nn.BatchNorm2d) for module in clip.modules())
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    torch.testing.assert_close(clip.encode_image(images), expected, atol=1e-5, rtol=1e-5)


def test_half_precision_weights_are_loaded_in_full_precision(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in small_clip(seed=1).state_dict().items()}
    path = tmp_path / "small.safetensors"
    safetensors.torch.save_file(state, path)
    clip = load_clip(ClipSource(model=write_description(tmp_path), weights=path, context_length=8))
    torch.testing.assert_close(clip.ln_final.weight, state["ln_final.weight"].float())
    assert clip.visual.conv1.weight.dtype == torch.float32


class Archive(nn.Module):
    """The form of OpenAI's file: weights, and three integers that are not weights."""

    def __init__(self) -> None:
        super().__init__()
        for name, part in small_clip(seed=2).named_children():
            self.add_module(name, part)
        clip = small_clip(seed=2)
        for name, value in clip.named_parameters(recurse=False):
            self.register_parameter(name, value)
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(1))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.nn.functional.embedding(tokens, self.get_parameter("token_embedding.weight"))


def test_a_torchscript_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "RN.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what OpenAI published
        torch.jit.trace(Archive().eval(), torch.zeros(1, 1, dtype=torch.int64)).save(path)
    clip = load_clip(ClipSource(model=write_description(tmp_path), weights=path, context_length=8))
    expected = small_clip(seed=2).token_embedding.weight
    torch.testing.assert_close(clip.token_embedding.weight, expected)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", ["model", "state_dict", None])
def test_weights_are_found_in_what_training_scripts_save(
    tmp_path: Path, wrapper: str | None, prefix: str
) -> None:
    state = {prefix + name: value for name, value in nn.Linear(2, 3).state_dict().items()}
    path = tmp_path / "checkpoint.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    assert set(read_published(path)) == {"weight", "bias"}


def test_weights_of_another_architecture_are_named(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    state["extra"] = state.pop("bias")
    with pytest.raises(InputError) as caught:
        load_exactly(nn.Linear(4, 3), state, "old.pt")
    message = str(caught.value)
    assert message == (
        "old.pt: bias is missing; extra is not in the model; "
        "weight is (3, 2) where (3, 4) is needed; needed the weights of this Linear"
    )


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all"], ids=["empty", "text"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: not weights"):
        read_published(path)


def test_a_pickle_of_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"model": {"weight": print}}, path)
    with pytest.raises(InputError, match="needed tensors only"):
        read_published(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.pt: no such file"):
        read_published(tmp_path / "absent.pt")


TINY_VISION = {
    "residual": DESCRIPTION["vision_cfg"],
    "transformer": VISION_TRANSFORMER["vision_cfg"],
}


@pytest.mark.parametrize(
    ("model", "pretrained", "activation"),
    [
        ("RN50", "openai", QuickGELU),
        ("RN50", "cc12m", QuickGELU),  # as open_clip's configuration of it says
        ("ViT-B-32", "openai", QuickGELU),
        ("ViT-B-32", "laion400m_e32", QuickGELU),
        ("ViT-B-32", "laion2b_s34b_b79k", nn.GELU),
        ("ViT-B-16", "laion400m_e32", nn.GELU),
        ("ViT-B-32-quickgelu", "metaclip_400m", QuickGELU),
        ("ViT-L-14", "laion2b-s32b-b82k", nn.GELU),  # open_clip reads - as _
    ],
)
@torch.no_grad()
def test_the_activation_is_the_one_that_the_weights_were_trained_with(
    model: str, pretrained: str, activation: type[nn.Module]
) -> None:
    source = ClipSource(model=model, pretrained=pretrained)
    tiny = {**DESCRIPTION, "vision_cfg": TINY_VISION[source.image_encoder or ""]}
    tiny["quick_gelu"] = read_description(source)["quick_gelu"]
    torch.manual_seed(0)
    clip = Clip(tiny).eval()
    towers: list[nn.Module] = [clip.transformer]
    if source.image_encoder == "transformer":
        towers.append(clip.visual)
    for tower in towers:
        actual = [type(part) for part in tower.modules() if isinstance(part, nn.GELU | QuickGELU)]
        assert actual == [activation] * len(actual) and actual

    theirs = reference(tiny, quick_gelu=activation is QuickGELU)
    theirs.load_state_dict(clip.state_dict())
    images, tokens = torch.randn(2, 3, clip.image_size, clip.image_size), small_tokens(3)
    for ours, expected in zip(clip(images, tokens), theirs(images, tokens), strict=True):
        torch.testing.assert_close(ours, expected, atol=ROUNDING, rtol=0)


def test_pretrained_weights_that_open_clip_does_not_know_are_refused() -> None:
    message = "clip.pretrained: laion; needed one that open_clip knows of RN50: openai, yfcc15m, cc"
    with pytest.raises(InputError, match=message):
        load_clip(ClipSource(model="RN50", pretrained="laion"))
    with pytest.raises(InputError, match=r"openai; needed one that .* of ViT-H-14: laion2b_s32b"):
        load_clip(ClipSource(model="ViT-H-14"))


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"clip.model: RN5; needed a name of open_clip's"):
        load_clip(ClipSource(model="RN5"))


@pytest.mark.parametrize(
    ("model", "pretrained", "reason"),
    [
        ("convnext_base", "laion400m_s13b_b51k", "vision_cfg.timm_"),
        ("roberta-ViT-B-32", "laion2b_s12b_b32k", "text_cfg.hf_"),
        ("coca_ViT-B-32", "laion2b_s13b_b90k", "text_cfg.embed_"),
    ],
)
def test_a_model_of_other_networks_is_refused(model: str, pretrained: str, reason: str) -> None:
    with pytest.raises(InputError, match=rf"{model} has {reason}\w+; needed a CLIP whose image"):
        load_clip(ClipSource(model=model, pretrained=pretrained))


def test_a_description_without_a_text_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": {}}))
    with pytest.raises(InputError, match=r"bad.json: no text_cfg"):
        load_clip(ClipSource(model=str(path)))


def test_a_context_longer_than_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"context_length: 20; needed at most the {CONTEXT}"):
        load_clip(ClipSource(model=write_description(tmp_path)))


def test_the_end_token_is_where_an_expression_is_read() -> None:
    clip = small_clip().eval()
    tokens = small_tokens(1)
    end = int(tokens[0].argmax())
    assert tokens[0, end] == VOCABULARY - 1
    words, sentences = clip.encode_text(tokens)
    torch.testing.assert_close(sentences, words[:, end] @ clip.text_projection)
