"""Every hyper-parameter of the official configuration files is that of our experiment.

The values are in official_values.yaml. A parameter that has no option of ours is named in
`NOT_OPTIONS`, with the reason. What the scripts fix beside their files is compared too, and what
the corrected rows change of it.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import yaml

from stages.config.experiment import Experiment
from stages.config.load import load_configs
from stages.config.recipes import flatten
from stages.training.schedule import learning_rates

ROOT = Path(__file__).parent.parent
OFFICIAL: dict[str, Any] = yaml.safe_load((ROOT / "tests/official_values.yaml").read_text())
CONFIGS = load_configs(ROOT / "configs")
EXPERIMENTS, DATASET_OPTIONS = CONFIGS.experiments, CONFIGS.datasets
ROWS = [
    (system, file, values["shared"] | parameters)
    for system, values in OFFICIAL.items()
    for file, parameters in values["files"].items()
]
GREFCOCO_SENTENCES = 209_344  # of train: the official schedule counts steps
DATASETS = {
    "refcoco": "refcoco",
    "refcoco+": "refcocoplus",
    "refcocog_u": "refcocog_umd",
    "refcocog_g": "refcocog_google",
    "refcoco_mixed": "refcoco_mixed",
    "grefcoco_unc_train": "grefcoco",
}
NOT_OPTIONS = {
    "fpn_out": "fixed in the network: the channels of the neck",
    "sync_bn": "batch norms are synchronized wherever there are several processes",
    "intermediate": "false everywhere: only the decoder's last layer is used",
    "workers": "an execution option",
    "workers_val": "an execution option",
    "batch_size_val": "changes no score",
    "multi_stage": "3 everywhere; ETRIS's vision transformer and DETRIS ignore it",
    "stride": "follows from CLIP's image encoder",
    "TEST.EVAL_PERIOD": "chooses no epoch: the rows score after their training alone",
}


def clip_channels(experiment: Experiment) -> dict[str, Any]:
    """The architecture of the segmentor's CLIP."""
    assert experiment.segmentor.clip is not None
    return dict(open_clip.get_model_config(experiment.segmentor.clip.model) or {})


def fpn_in(experiment: Experiment) -> list[int]:
    """Channels of the three maps that the neck reads."""
    segmentor = experiment.segmentor
    if segmentor.model == "detris":
        with_cells = timm.create_model(segmentor.dino.model, num_classes=0, depth=1)
        return 3 * [int(with_cells.num_features)]
    clip = clip_channels(experiment)
    width = clip["vision_cfg"]["width"]
    if isinstance(clip["vision_cfg"]["layers"], list):
        return [8 * width, 16 * width, clip["embed_dim"]]
    return [width, width, clip["embed_dim"]]


def epochs_of(steps: int, experiment: Experiment) -> int:
    return int(steps * experiment.segmentor.batch_size / GREFCOCO_SENTENCES)


def has_amp(section: Any) -> bool:
    return section.precision in ("auto", "bfloat16")


def steps_of(schedule: str) -> str:
    return {"poly": "iterations", "poly_per_epoch": "epochs"}[schedule]


def ratio(section: Any) -> float:
    return float(section.backbone_learning_rate / section.learning_rate)


def val_split(experiment: Experiment) -> str:
    """The official name of what is scored during the training; val of mixed data is of all."""
    validation = experiment.segmentor.validation
    assert validation is not None
    members = DATASET_OPTIONS[experiment.dataset].members
    if members:
        assert validation.split == tuple(f"{member}_val" for member in members)
        return "val"
    (split,) = validation.split
    return split


def selection(section: Any) -> dict[str, Any]:
    """What chooses the epoch that is kept."""
    if section.validation is None:
        return {"keep": section.keep}
    options = section.validation.model_dump(include={"metric", "every", "first_expressions"})
    return {"keep": section.keep, **options}


def on_val(section: Any) -> dict[str, Any]:
    split = "+".join(section.validation.split) if section.validation is not None else None
    return {**selection(section), "split": split}


Option = Callable[[Any], Any]
# Of each official parameter: the same value as our options have it.
QUERY_MODELS: Mapping[str, Option] = {
    "dataset": lambda e: next(name for name, own in DATASETS.items() if own == e.dataset),
    "clip_pretrain": lambda e: e.segmentor.clip.weights.name,
    "input_size": lambda e: e.segmentor.image_size,
    "word_len": lambda e: e.segmentor.clip.context_length,
    "word_dim": lambda e: clip_channels(e)["embed_dim"],
    "fpn_in": fpn_in,
    "vis_dim": lambda e: e.segmentor.channels,
    "num_layers": lambda e: e.segmentor.layers,
    "num_head": lambda e: e.segmentor.heads,
    "dim_ffn": lambda e: e.segmentor.hidden,
    "dropout": lambda e: e.segmentor.dropout,
    "epochs": lambda e: e.segmentor.epochs,
    "milestones": lambda e: list(e.segmentor.milestones),
    "batch_size": lambda e: e.segmentor.batch_size,
    "base_lr": lambda e: e.segmentor.learning_rate,
    "lr_decay": lambda e: e.segmentor.gamma,
    "lr_multi": lambda e: ratio(e.segmentor),
    "weight_decay": lambda e: e.segmentor.weight_decay,
    "max_norm": lambda e: e.segmentor.max_grad_norm or 0,
    "manual_seed": lambda e: e.segmentor.seed,
    "evaluate": lambda e: e.segmentor.validation is not None,
    "val_split": lambda e: val_split(e),
}
OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "cris": QUERY_MODELS,
    "etris": {
        **QUERY_MODELS,
        "ladder_dim": lambda e: e.segmentor.bridge_channels,
        "nhead": lambda e: (
            e.segmentor.bridge_heads or (4 if e.segmentor.clip.model.startswith("RN") else 8)
        ),
    },
    "detris": {
        **QUERY_MODELS,
        "visual_adapter_dim": lambda e: e.segmentor.visual_channels,
        "visual_adapter_layer": lambda e: list(e.segmentor.visual_layers),
        "txt_adapter_dim": lambda e: e.segmentor.text_channels,
        "txtual_adapter_layer": lambda e: list(e.segmentor.text_layers),
        "dino_pretrain": lambda e: e.segmentor.dino.weights.name,
        "dino_layers": lambda e: {"base": 12, "large": 24}[e.segmentor.dino.model.split("_")[1]],
        "output_dinov2": lambda e: list(e.segmentor.outputs),
        "model_name": lambda e: f"CLIP-{e.segmentor.clip.model[4:].lower()}",
        "dino_name": lambda e: {"base": "dino-base", "large": "dinov2-large"}[
            e.segmentor.dino.model.split("_")[1]
        ],
    },
    "rela": {
        "DATASETS.TRAIN": QUERY_MODELS["dataset"],
        "INPUT.IMAGE_SIZE": lambda e: e.segmentor.image_size,
        "MODEL.MASK_FORMER.DEC_LAYERS": lambda e: e.segmentor.layers + 1,
        "MODEL.MASK_FORMER.DIM_FEEDFORWARD": lambda e: e.segmentor.hidden,
        "MODEL.MASK_FORMER.DROPOUT": lambda e: getattr(e.segmentor, "dropout", 0.0),
        "MODEL.MASK_FORMER.HIDDEN_DIM": lambda e: e.segmentor.channels,
        "MODEL.MASK_FORMER.NHEADS": lambda e: e.segmentor.heads,
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": lambda e: e.segmentor.regions**2,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": lambda e: e.segmentor.channels,
        "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": lambda e: e.segmentor.pixel_layers,
        "MODEL.SWIN.DROP_PATH_RATE": lambda e: e.segmentor.drop_path,
        "MODEL.WEIGHTS": lambda e: {"resnet50": "R-50"}.get(
            e.segmentor.backbone_weights.stem, e.segmentor.backbone_weights.stem
        ),
        "REFERRING.BERT_TYPE": lambda e: e.segmentor.text_weights.parent.name,
        "REFERRING.MAX_TOKENS": lambda e: e.segmentor.context_length,
        "SOLVER.BACKBONE_MULTIPLIER": lambda e: 0.1 * ratio(e.segmentor),  # has no effect
        "SOLVER.BASE_LR": lambda e: e.segmentor.learning_rate,
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": lambda e: e.segmentor.max_grad_norm,
        "SOLVER.IMS_PER_BATCH": lambda e: e.segmentor.batch_size,
        "SOLVER.OPTIMIZER": lambda e: e.segmentor.optimizer.upper(),
        "SOLVER.WARMUP_FACTOR": lambda e: 1.0 if not e.segmentor.warmup_steps else None,
        "SOLVER.WEIGHT_DECAY": lambda e: e.segmentor.weight_decay,
    },
    "tris": {
        "stage1.batch_size": lambda e: e.stage1.batch_size,
        "stage1.size": lambda e: e.stage1.image_size,
        "stage1.epoch": lambda e: e.stage1.epochs,
        "stage1.backbone": lambda e: f"clip-{e.stage1.clip.model}",
        "stage1.max_query_len": lambda e: e.stage1.clip.context_length,
        "stage1.negative_samples": lambda e: e.stage1.negatives,
        "stage1.lr": lambda e: e.stage1.learning_rate,
        "stage1.lr_multi": lambda e: ratio(e.stage1),
        "stage1.weight_decay": lambda e: e.stage1.weight_decay,
        "stage1.hidden_dim": lambda e: e.stage1.hidden,
        "stage1.w1": lambda e: e.stage1.weight_foreground,
        "stage1.w4": lambda e: e.stage1.weight_classification,
        "stage1.w5": lambda e: e.stage1.weight_negatives,
        "stage1.attn_multi": lambda e: e.stage1.fusion,
        "stage1.FOCAL_P": lambda e: e.stage1.focal_power,
        "stage1.FOCAL_LAMBDA": lambda e: e.stage1.focal_constant,
        "stage2.batch_size": lambda e: e.segmentor.batch_size,
        "stage2.size": lambda e: e.segmentor.image_size,
        "stage2.epoch": lambda e: e.segmentor.epochs,
        "stage2.backbone": lambda e: f"clip-{e.segmentor.clip.model}",
        "stage2.max_query_len": lambda e: e.segmentor.clip.context_length,
        "stage2.lr": lambda e: e.segmentor.learning_rate,
        "stage2.lr_multi": lambda e: ratio(e.segmentor),
        "stage2.weight_decay": lambda e: e.segmentor.weight_decay,
        "irnet.conf_fg_thres": lambda e: e.labels.foreground_threshold,
        "irnet.conf_bg_thres": lambda e: e.labels.background_threshold,
        "irnet.irn_crop_size": lambda e: e.affinity.crop_size,
        "irnet.irn_batch_size": lambda e: e.affinity.batch_size,
        "irnet.irn_num_epoches": lambda e: e.affinity.epochs,
        "irnet.irn_learning_rate": lambda e: e.affinity.learning_rate,
        "irnet.irn_weight_decay": lambda e: e.affinity.weight_decay,
        "irnet.beta": lambda e: e.propagation.beta,
        "irnet.exp_times": lambda e: math.log2(e.propagation.steps),
        "irnet.ins_seg_bg_thres": lambda e: e.propagation.background_threshold,
    },
}
# What the scripts fix beside their files.
CODE: Mapping[str, Option] = {
    "drop_last": lambda e: e.segmentor.drop_last,
    "amp": lambda e: has_amp(e.segmentor),
    "amp_in_evaluation": lambda e: e.evaluation.precision != "float32",
    "rates_in_first_epoch": lambda e: learning_rates(
        e.segmentor, [e.segmentor.backbone_learning_rate, e.segmentor.learning_rate], 0, 5000
    ),
    "mixed_objects_left_out": lambda e: (
        e.dataset == "refcoco_mixed" and DATASET_OPTIONS[e.dataset].drop_evaluated_images
    ),
    "scored_side": lambda e: e.segmentor.image_size if e.evaluation.at_input_size else None,
    "selection": lambda e: selection(e.segmentor),
    "stage1.selection": lambda e: on_val(e.stage1),
    "stage2.selection": lambda e: on_val(e.segmentor),
    "stage1.drop_last": lambda e: e.stage1.drop_last,
    "stage2.drop_last": lambda e: e.segmentor.drop_last,
    "irnet.drop_last": lambda e: e.affinity.drop_last,
    "stage1.amp": lambda e: has_amp(e.stage1),
    "stage2.amp": lambda e: has_amp(e.segmentor),
    "irnet.amp": lambda e: has_amp(e.affinity),
    "stage1.scheduler_steps": lambda e: steps_of(e.stage1.schedule),
    "stage2.scheduler_steps": lambda e: steps_of(e.segmentor.schedule),
    "stage1.clamped_negatives": lambda e: e.stage1.bound_negatives,
    "end_of_long_expressions": lambda e: any(
        clip.keep_end for clip in (e.stage1.clip, e.segmentor.clip, e.judge)
    ),
    "mask_of_a_negative_map": lambda e: e.evaluation.empty_response,
    "mask_of_no_response": lambda e: e.propagation.empty_response,
}
# What `<row>_corrected` has instead.
ALL_ITEMS = {"segmentor.drop_last": False}
CORRECTED: Mapping[str, dict[str, Any]] = {
    "cris": {**ALL_ITEMS, "segmentor.one_rate_first_epoch": False},
    "etris": ALL_ITEMS,
    "detris": ALL_ITEMS,
    "rela": {**ALL_ITEMS, "evaluation.at_input_size": False},
    "tris": {
        "judge.keep_end": True,
        "stage1.clip.keep_end": True,
        "stage1.bound_negatives": True,
        "affinity.drop_last": False,
        "propagation.empty_response": "empty",
        "segmentor.clip.keep_end": True,
        "segmentor.schedule": "poly",
        "evaluation.empty_response": "empty",
        "stage1.validation.empty_response": "empty",
        "segmentor.validation.empty_response": "empty",
    },
}
STEPS = ("SOLVER.MAX_ITER", "SOLVER.STEPS")  # ReLA's schedule, which ours counts in epochs


@pytest.mark.parametrize(
    ("system", "file", "parameters"), ROWS, ids=[f"{s}-{f}" for s, f, _ in ROWS]
)
def test_each_parameter_of_an_official_file_is_ours(
    system: str, file: str, parameters: dict[str, Any]
) -> None:
    experiment = EXPERIMENTS[parameters["experiment"]]
    assert experiment.segmentor.model == system
    options = OPTIONS[system]
    named = parameters.keys() - {"experiment", *NOT_OPTIONS, *STEPS}
    if system == "detris":  # these two change the name of the experiment alone
        named -= {"ladder_dim", "nhead"}
    assert named <= options.keys()
    official = {name: parameters[name] for name in named}
    assert {name: options[name](experiment) for name in named} == {
        name: pytest.approx(value) if isinstance(value, float) else value
        for name, value in official.items()
    }


NO_VAL = {"keep": "last", "split": None}
ROW_NAMES = sorted(name for name, e in EXPERIMENTS.items() if e.published and not e.checkpoint)


@pytest.mark.parametrize("name", ROW_NAMES)
def test_what_the_official_scripts_fix_is_in_each_row(name: str) -> None:
    experiment = EXPERIMENTS[name]
    code = dict(OFFICIAL[experiment.segmentor.model]["code"])
    if experiment.dataset == "referit":  # no script trains on it, and it has no val
        assert code.keys() >= {"stage1.selection", "stage2.selection"}
        code |= dict.fromkeys(("stage1.selection", "stage2.selection"), NO_VAL)
    assert {key: CODE[key](experiment) for key in code} == code


@pytest.mark.parametrize("name", ROW_NAMES)
def test_the_corrected_row_differs_from_the_row_in_what_is_corrected_alone(name: str) -> None:
    row, corrected = EXPERIMENTS[name], EXPERIMENTS[f"{name}_corrected"]
    left_out = {"base", "reasons", "published", "expected"}
    before, after = (
        flatten(each.model_dump(mode="json", exclude=left_out)) for each in (row, corrected)
    )
    changed = dict(CORRECTED[row.segmentor.model])
    if row.dataset == "referit":  # nothing is scored during its trainings
        changed = {key: value for key, value in changed.items() if ".validation" not in key}
    if row.dataset == "refcoco_mixed":
        changed["dataset"] = "refcoco_mixed_clean"
    assert {key: value for key, value in after.items() if value != before[key]} == changed
    assert not corrected.published


def test_the_schedule_of_rela_is_that_of_its_steps_in_epochs() -> None:
    shared = OFFICIAL["rela"]["shared"]
    for file in OFFICIAL["rela"]["files"].values():
        experiment = EXPERIMENTS[file["experiment"]]
        segmentor = experiment.segmentor
        assert segmentor.epochs == epochs_of(shared["SOLVER.MAX_ITER"], experiment)
        assert list(segmentor.milestones) == [
            epochs_of(step, experiment) for step in shared["SOLVER.STEPS"]
        ]


def test_every_row_is_compared() -> None:
    """Rows of ReLA on the data sets of RefCOCO have no official file: its README has figures."""
    compared = {parameters["experiment"] for *_, parameters in ROWS}
    rows = {
        name
        for name, experiment in EXPERIMENTS.items()
        if experiment.published and experiment.checkpoint is None
    }
    others = {name for name in rows - compared if name.startswith("rela_swinb_")}
    assert rows - compared == others and compared <= rows
    for name in others:
        ours = EXPERIMENTS[name].segmentor.model_dump(exclude={"epochs", "milestones"})
        of_row = EXPERIMENTS["rela_swinb_grefcoco"].segmentor
        assert ours == of_row.model_dump(exclude={"epochs", "milestones"})
