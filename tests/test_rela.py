"""ReLA with small encoders: shapes, losses, gradients, bad inputs; word pieces; scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from stages.backbones.bert import Bert
from stages.backbones.resnet import ResNet50
from stages.backbones.swin import SIZES, Swin
from stages.config.encoders import ClipSource
from stages.config.segmentors import RelaOptions
from stages.data.wordpiece import WordPieceTokenizer, load_model_tokenizer
from stages.metrics.generalized import outcome, summarize_generalized
from stages.models.rela import RelaSegmentor, _margin, build_rela
from stages.runtime.errors import InputError
from tests.small_clip import CONTEXT, small_tokens, write_description

SIZE = 96
# The CLIP's coarsest map has 3 x 3 cells that read all but the same words, which its instance
# norm magnifies with its rounding: 5e-4 was seen.
ROUNDING = {"swin_mini": 5e-5, "clip": 2e-3}
TINY: dict[str, Any] = {
    "image_size": SIZE,
    "text_layers": None,
    "channels": 32,
    "heads": 4,
    "pixel_layers": 2,
    "pixel_hidden": 64,
    "regions": 4,
    "layers": 3,
    "hidden": 64,
    "drop_path": 0.0,
}
ENCODERS = pytest.mark.parametrize("encoders", [("swin_mini", "bert_mini"), ("clip", "clip")])
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "square", "##s", "the"]


@pytest.fixture
def source(tmp_path: Path) -> ClipSource:
    return ClipSource(model=write_description(tmp_path), context_length=CONTEXT)


def build(source: ClipSource, encoders: tuple[str, str], **changes: Any) -> RelaSegmentor:
    torch.manual_seed(0)
    settings = {**TINY, "backbone": encoders[0], "text": encoders[1], **changes}
    config = RelaOptions.model_validate({**settings, "clip": source})
    return build_rela(config, pretrained=False)


def batch_of(images: int = 2, expressions: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "images": torch.randn(images, 3, SIZE, SIZE),
        "image_index": torch.arange(expressions) % images,
        "tokens": small_tokens(expressions),
        "masks": (torch.rand(expressions, SIZE, SIZE) > 0.5).float(),
        "no_target": (torch.arange(expressions) == 1).float(),
    }


@ENCODERS
@torch.no_grad()
def test_scores_have_the_size_of_the_images(source: ClipSource, encoders: tuple[str, str]) -> None:
    model = build(source, encoders).eval()
    scores, no_target = model.predict_generalized(batch_of())
    assert scores.shape == (3, SIZE, SIZE)
    assert no_target.shape == (3,)
    assert scores.abs().max() <= 1


@ENCODERS
def test_every_trainable_parameter_gets_a_gradient(
    source: ClipSource, encoders: tuple[str, str]
) -> None:
    model = build(source, encoders, dice=1.0).train()
    losses = model(batch_of())
    losses["loss"].backward()

    assert all(torch.isfinite(value) for value in losses.values())
    assert set(losses) == {"loss", "mask", "minimap", "no_target", "dice"}
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert {name for name in trained if model.get_parameter(name).grad is None} == set()
    grouped = [p for group in model.parameter_groups(model.config) for p in group["params"]]
    assert len(grouped) == len(trained) == len(set(map(id, grouped)))


@ENCODERS
@torch.no_grad()
def test_an_expression_gives_the_same_alone_as_among_others(
    source: ClipSource, encoders: tuple[str, str]
) -> None:
    model = build(source, encoders).eval()
    batch = batch_of()
    together = model.logits(batch)
    for number, image in enumerate(batch["image_index"].tolist()):
        alone = model.logits(
            {
                "images": batch["images"][image : image + 1],
                "image_index": torch.tensor([0]),
                "tokens": batch["tokens"][number : number + 1],
            }
        )
        for part in ("masks", "minimap", "no_target"):
            difference = getattr(alone, part)[0] - getattr(together, part)[number]
            assert difference.abs().max() < ROUNDING[encoders[0]]


@torch.no_grad()
def test_what_has_no_target_has_no_mask(source: ClipSource) -> None:
    model = build(source, ("clip", "clip")).eval()
    decision = model.sem_seg_head.predictor.nt_embed.layers[1]
    decision.weight.zero_()
    decision.bias.copy_(torch.tensor([0.0, 1.0]))
    batch = batch_of()
    assert (model.predict(batch) < 0).all()
    scores, no_target = model.predict_generalized(batch)
    assert (no_target > 0).all()

    decision.bias.copy_(torch.tensor([1.0, 1.0]))  # undecided: there is a target
    torch.testing.assert_close(model.predict(batch), scores)


def test_where_both_probabilities_are_one_the_logits_decide() -> None:
    background, target = [60.0, 60.0, -90.0, 0.0], [40.0, 80.0, -200.0, 1.0]
    logits = torch.tensor([[background, target]])
    assert torch.equal(logits.sigmoid()[0, 0, :2], logits.sigmoid()[0, 1, :2])
    found = _margin(logits)[0]
    assert (found > 0).tolist() == [False, True, False, True]
    assert found[3].item() == pytest.approx(1 / (1 + np.exp(-1)) - 0.5)


def test_without_no_target_labels_every_expression_has_a_target(
    source: ClipSource,
) -> None:
    model = build(source, ("clip", "clip")).eval()
    batch = batch_of()
    batch["no_target"] = torch.zeros(3)
    labelled = model(batch)["loss"]
    del batch["no_target"]
    assert model(batch)["loss"].item() == labelled.item()


def test_the_published_layers_of_bert_learn(source: ClipSource) -> None:
    text = Bert("mini", words=20)
    text.train_only(1)
    learning = {name for name, value in text.named_parameters() if value.requires_grad}
    assert learning and all(name.startswith("encoder.layer.0.") for name in learning)


@pytest.mark.parametrize("kind", ["bert", "resnet", "swin"])
def test_published_weights_of_encoders_load(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder: Any = {
        "bert": lambda: Bert("mini", words=20),
        "resnet": ResNet50,
        "swin": lambda: Swin(SIZES["swin_mini"], text_width=8),
    }[kind]()
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    published = {
        "bert": {f"bert.{name}": value + 1 for name, value in state.items()},
        "resnet": {name: value + 1 for name, value in state.items()},
        "swin": {
            name: value + 1
            for name, value in state.items()
            if not any(part in name for part in ("fusion", "res_gate", "norm0", "norm3"))
            and not name.startswith(("norm1.", "norm2."))
        },
    }[kind]
    extra = {
        "bert": {"cls.predictions.bias": torch.zeros(20), "bert.pooler.dense.bias": torch.zeros(9)},
        "resnet": {"fc.weight": torch.zeros(2, 2), "bn1.num_batches_tracked": torch.tensor(3)},
        "swin": {"norm.weight": torch.zeros(4), "layers.0.blocks.1.attn_mask": torch.zeros(2)},
    }[kind]
    path = tmp_path / "published.pth"
    torch.save({**published, **extra}, path)

    encoder.load_pretrained(path)

    prefix = "bert." if kind == "bert" else ""
    for name, value in encoder.state_dict().items():
        expected = published.get(prefix + name, state[name])
        torch.testing.assert_close(value, expected)
    torch.save(extra, path)
    with pytest.raises(InputError, match="is missing"):
        encoder.load_pretrained(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 100}, "multiple of 32"),
        ({"backbone": "clip"}, "clip for both or neither"),
        ({"backbone": "vgg"}, "swin_tiny"),
        ({"channels": 96, "heads": 5}, "even number each head"),
    ],
)
def test_options_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RelaOptions.model_validate(changes)


def test_a_context_longer_than_berts_is_refused(tmp_path: Path) -> None:
    source = ClipSource(model=write_description(tmp_path), context_length=77)
    with pytest.raises(InputError, match="at most the 64"):
        build(source, ("swin_mini", "bert_mini"))
    with pytest.raises(InputError, match="90 an expression; needed at most 64"):
        Bert("mini", words=20)(torch.ones(2, 90, dtype=torch.int64))


def test_word_pieces_are_lower_case_and_cut_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = WordPieceTokenizer(path, context_length=6)
    texts = ["The RED squares", "the big one", "red " * 9, ""]
    assert tokenizer(texts).tolist() == [
        [2, 7, 4, 5, 6, 3],
        [2, 7, 1, 1, 3, 0],
        [2, 4, 4, 4, 4, 4],  # without [SEP], as officially
        [2, 3, 0, 0, 0, 0],
    ]
    assert tokenizer.too_long(texts) == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"\xff\xfe\x00", "no text"),
        (b"[PAD]\n[UNK]\n[CLS]\n", r"\[SEP\] is missing"),
        (b"[UNK]\n[PAD]\n[CLS]\n[SEP]\n", r"\[PAD\] on line 2"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "vocab.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        WordPieceTokenizer(path)


def test_each_text_encoder_has_its_tokenizer(source: ClipSource) -> None:
    with pytest.raises(InputError, match=r"vocab\.txt"):
        load_model_tokenizer(RelaOptions())
    words = load_model_tokenizer(RelaOptions(backbone="clip", text="clip", clip=source))
    assert words(["red square"])[0, :4].tolist() == [1, 2, 3, 5]


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_generalized_scores_by_hand() -> None:
    nothing, half, whole = mask("....", "...."), mask("##..", "##.."), mask("####", "####")
    scores = summarize_generalized(
        [
            outcome(half, half, no_target=False, predicted_no_target=False),  # 4 of 4
            outcome(half, whole, no_target=False, predicted_no_target=True),  # 0 of 8
            outcome(whole, nothing, no_target=True, predicted_no_target=True),  # right
            outcome(half, nothing, no_target=True, predicted_no_target=False),  # 0 of 4
            outcome(nothing, nothing, no_target=True, predicted_no_target=False),  # wrong, though
        ]
    )
    assert (scores.num_samples, scores.num_no_target) == (5, 3)
    assert scores.g_iou == pytest.approx(2 / 5)
    assert scores.c_iou == pytest.approx(4 / 16)
    assert scores.n_acc == pytest.approx(1 / 3)
    assert scores.t_acc == pytest.approx(1 / 2)
    assert scores.precision == {0.7: 0.5, 0.8: 0.5, 0.9: 0.5}


def test_a_set_without_any_target_is_scored() -> None:
    nothing = mask("..")
    scores = summarize_generalized([outcome(nothing, nothing, True, True)])
    assert (scores.g_iou, scores.n_acc) == (1.0, 1.0)
    assert (scores.c_iou, scores.t_acc, scores.precision) == (None, None, None)
    with pytest.raises(ValueError, match="no sample"):
        summarize_generalized([])


def test_precision_counts_an_iou_that_is_the_threshold() -> None:
    ten = mask("##########")
    scores = summarize_generalized([outcome(mask("#######..."), ten, False, False)])
    assert scores.precision == {0.7: 1.0, 0.8: 0.0, 0.9: 0.0}
    assert scores.n_acc is None
