"""Wrong options stop at once, with file, field and remedy; command lines come from signatures."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.config.encoders import ClipSource
from stages.config.experiment import Experiment
from stages.config.findings import parse_section
from stages.config.load import load_configs
from stages.config.names import name_fault
from stages.config.section import Execution
from stages.config.segmentors import (
    CrisOptions,
    DetrisOptions,
    RelaOptions,
    Segmentor,
    TrisOptions,
)
from stages.config.steps import Labels, Stage1
from stages.runtime.command_line import parser
from stages.runtime.errors import InputError

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONFIGS, tmp_path / "configs"))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_the_configs_that_come_with_the_project_are_right() -> None:
    loaded = load_configs(CONFIGS)
    assert loaded.settings.demo in loaded.experiments
    assert loaded.experiments["refshapes_tris"].dataset == "refshapes"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "experiments/refshapes_tris.yaml",
            "prms: {batchsize: 3}\n",
            r"experiments/refshapes_tris.yaml: prms.batchsize: no such option; did you mean batch",
        ),
        (
            "experiments/refshapes_tris.yaml",
            "prms: {batch_size: 0}\n",
            r"refshapes_tris.yaml: prms.batch_size: Input should be greater than 0, found 0",
        ),
        (
            "experiments/refshapes_tris.yaml",
            "prms: {batch_size: true}\n",
            r"refshapes_tris.yaml: prms.batch_size: needed a number, found True",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nresources: {default: {memory: 3}}\n",
            r"new.yaml: resources.default.memory: no such option; options here: threads, gpu, mem",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nresources: {train_stage: {gpu: 3}}\n",
            r"new.yaml: resources.train_stage.*: Input should be 'default', 'train_stage1'",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshape\n",
            r"experiments/new.yaml: dataset: 'refshape' is not known; did you mean refshapes\?",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsupervision: pseudo:nothing\n",
            r"new.yaml: supervision: 'nothing' is not known",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsegmentor: {consistency: 1, contrast: 0.01}\n",
            r"new.yaml: segmentor.consistency: 1 with contrast or masked_view; needed one of them",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsupervision: pseudo:new\n",
            r"new -> new never ends",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsupervision: pseudo:refshapes_tris_masks\n",
            r"refshapes_tris_masks learns from masks, and makes no pseudo masks",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsupervision: both\n",
            r"new.yaml: supervision: needed masks, pseudo, pseudo:<experiment> or"
            r" votes:<experiment>, found 'both'",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsupervision: masks\nstage1_checkpoint: a.pth\n",
            r"new.yaml: stage1_checkpoint with supervision masks: no stage 1 here; needed",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsegmentor: {model: criss}\n",
            r"new.yaml: segmentor.model: no such model; needed a section .* found 'criss'",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsegmentor: {model: cris, chanels: 64}\n",
            r"new.yaml: segmentor.chanels: no such option; did you mean channels\?",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsegmentor: {model: rela, backbone: clip}\n",
            r"new.yaml: segmentor: backbone clip and text bert; needed clip for both or neither$",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nmasks: {formats: [png], stages: [assigned]}\n",
            r"new.yaml: masks.stages: assigned; needed an assignment.method in new$",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsupervision: pseudo:refshapes_tris\nmasks: {stages: [assigned]}\n",
            r"new.yaml: masks.stages: assigned; needed an assignment.method in refshapes_tris$",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nstage1: {initialize: refshapes_beyond_second}\n",
            r"new.yaml: stage1.initialize: refshapes_beyond_second has no stage 1; needed an exp",
        ),
        (
            "experiments/new.yaml",
            "base: [refshapes_tris]\n",
            r"new.yaml: base: needed the name of one experiment, found \['refshapes_tris'\]",
        ),
        (
            "experiments/new.yaml",
            "base: refshapes_tris\nsweep: {1: [1]}\n",
            r"new.yaml: sweep: 1 is no option; needed one such as segmentor.epochs",
        ),
        (
            "experiments/new.yaml",
            "base: refshapes_tris\nsweep: {segmentor.dice: [1, 1]}\n",
            r"new.yaml: sweep: two variants are called new_dice_1; needed values whose letters",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsegmentor: {seed: 99999999999999999999}\n",
            r"new.yaml: segmentor.seed: Input should be less than 9223372036854775808",
        ),
        (
            "config.yaml",
            "demo: refshapes_tris\ncomparisons: {nothing: []}\n",
            r"config.yaml: comparisons.nothing: needed a list of at least 1",
        ),
        (
            "datasets/new.yaml",
            "source: mix\nmembers: [refshapes, refcoco_mixed]\n",
            r"new.yaml: members: 'refcoco_mixed' is not known; did you mean refcoco",
        ),
        (
            "datasets/new.yaml",
            "source: mix\n",
            r"new.yaml: members: \[\]; needed for source mix only",
        ),
        ("experiments/new.yaml", "dataset: [", r"new.yaml: not YAML"),
        ("experiments/new.yaml", "", r"new.yaml: dataset: Field required"),
        (
            "experiments/refshapes.yaml",
            "dataset: refshapes\n",
            r"refshapes.yaml: a data set is called refshapes too",
        ),
        ("datasets/mine.yaml", "source: csv\n", r"mine.yaml: source: Input should be 'refshapes'"),
        ("config.yaml", "results: 3\n", r"config.yaml: results: .*found 3"),
    ],
)
def test_a_wrong_configuration_is_told_with_file_field_and_remedy(
    configs: Path, file: str, text: str, message: str
) -> None:
    path = configs / file
    content = path.read_text() if path.exists() and file != "config.yaml" else ""
    path.write_text(content + text)
    with pytest.raises(InputError, match=message):
        load_configs(configs)


SECTION = "needed a section, of options and their values"
RESIDUAL = "needed a residual CLIP (RN50, RN101)"
MASKS = "dataset: refshapes\nsupervision: masks\n"
VIT = "clip: {model: ViT-B-16, weights: a.pt}"
PLACES = [  # of sections: file, field, and the YAML that has the place of a value there
    *(
        ("experiments", name, f"dataset: refshapes\n{name}: VALUE\n")
        for name in (
            *("stage1", "prms", "labels", "affinity", "propagation", "evaluation", "report"),
            *("judge", "resources", "execution", "published", "expected", "reasons"),
        )
    ),
    ("experiments", "resources.default", "dataset: refshapes\nresources: {default: VALUE}\n"),
    ("experiments", "execution.default", "dataset: refshapes\nexecution: {default: VALUE}\n"),
    ("experiments", "published.val", "dataset: refshapes\npublished: {val: VALUE}\n"),
    ("experiments", "expected.val", "dataset: refshapes\nexpected: {val: VALUE}\n"),
    ("experiments", "stage1.clip", "dataset: refshapes\nstage1: {clip: VALUE}\n"),
    ("experiments", "segmentor.clip", MASKS + "segmentor: {model: cris, clip: VALUE}\n"),
    ("experiments", "segmentor.dino", MASKS + "segmentor: {model: detris, dino: VALUE}\n"),
    ("datasets", "refshapes", "source: refshapes\nrefshapes: VALUE\n"),
    ("datasets", "published", "source: refshapes\npublished: VALUE\n"),
    ("config", "comparisons", "comparisons: VALUE\n"),
    ("downloads", "downloads", "downloads: VALUE\n"),
    ("downloads", "downloads.mine.0", "downloads: {mine: [VALUE]}\n"),
    ("experiments", "", "VALUE\n"),
]
NO_SECTIONS = [
    (file, text.replace("VALUE", value), f"{field}: {SECTION}, found {actual}".removeprefix(": "))
    for file, field, text in PLACES
    for value, actual in (("cris", "'cris'"), ("[3]", "[3]"))
]
WRONG = [
    *(
        (
            "experiments",
            f"dataset: refshapes\nsegmentor: {value}\n",
            "segmentor: no such model; needed a section with model: tris, cris, etris, detris or"
            f" rela, found {actual}",
        )
        for value, actual in (("cris", "'cris'"), ("[cris]", "['cris']"), ("", "nothing"))
    ),
    *(
        (
            "experiments",
            f"dataset: refshapes\n{section}: {{{option}: yes}}\n",
            f"{section}.{option}: needed a number, found True",
        )
        for section, option in (("segmentor", "learning_rate"), ("judge", "image_size"))
    ),
    (
        "experiments",
        f"dataset: refshapes\nstage1: {{{VIT}}}\n",
        f"stage1.clip.model: ViT-B-16, a vision transformer; {RESIDUAL}",
    ),
    *(
        (
            "experiments",
            f"{MASKS}segmentor: {{model: {model}, {VIT}}}\n",
            f"segmentor.clip.model: ViT-B-16, a vision transformer; {RESIDUAL}",
        )
        for model in ("tris", "cris", "rela, backbone: clip, text: clip")
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: etris, clip: {model: convnext_base}}\n",
        "segmentor.clip.model: convnext_base; needed a residual CLIP (RN50, RN101) or a vision"
        " transformer (ViT-B-16)",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: etris, clip: {model: ViT-B-16, output_stride: 8}}\n",
        f"segmentor.clip.output_stride: 8 with model ViT-B-16; needed 32, or {RESIDUAL[7:]}",
    ),
    (
        "experiments",
        "dataset: refshapes\njudge: {image_size: 320}\n",
        f"judge.image_size: 320 with model ViT-B-32; needed null, or {RESIDUAL[7:]}",
    ),
    (
        "experiments",
        "dataset: refshapes\njudge: {model: RN50, image_size: 16}\n",
        "judge.image_size: 16; needed at least 32, one cell of 32 pixels",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: rela, clip: {model: RN50}}\n",
        "segmentor.clip: RN50, which backbone swin_base and text bert do not read; needed none, or"
        " clip for both",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: rela, backbone: clip, text: clip}\n",
        "segmentor.clip: none; needed the CLIP whose words text clip reads",
    ),
    (
        "experiments",
        "dataset: refshapes\nstage1: {image_size: 60}\n",
        "stage1.image_size: 60; needed at least 64, two cells of 32 pixels",
    ),
    (
        "experiments",
        MASKS + "segmentor: {image_size: 16, clip: {output_stride: 16}}\n",
        "segmentor.image_size: 16; needed at least 32, two cells of 16 pixels",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: cris, image_size: 400}\n",
        "segmentor.image_size: 400; needed a multiple of 32 (residual CLIP), such as 384 or 416",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: etris, image_size: 400}\n",
        "segmentor.image_size: 400; needed a multiple of 32 (residual CLIP), such as 384 or 416",
    ),
    (
        "experiments",
        MASKS + f"segmentor: {{model: etris, {VIT}, image_size: 410}}\n",
        "segmentor.image_size: 410; needed a multiple of 16 (CLIP's patches), such as 400 or 416",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: detris, image_size: 416}\n",
        "segmentor.image_size: 416; needed a multiple of 14 (patches of DINOv2), such as 406 or"
        " 420",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: rela, image_size: 400}\n",
        "segmentor.image_size: Input should be a multiple of 32, found 400",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: rela, image_size: 32}\n",
        "segmentor.image_size: 32; needed at least 64, two cells of 32 pixels",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: cris, heads: 7}\n",
        "segmentor.heads: 7; needed a number that divides the 512 channels",
    ),
    (
        "experiments",
        "dataset: refshapes\naffinity: {crop_size: 72}\n",
        "affinity.crop_size: 72; needed at least 76, for radius 10",
    ),
    (
        "experiments",
        "dataset: refshapes\naffinity: {crop_size: 510}\n",
        "affinity.crop_size: Input should be a multiple of 4, found 510",
    ),
    (
        "experiments",
        "dataset: refshapes\nevaluation: {splits: []}\n",
        "evaluation.splits: needed a list of at least 1, found []",
    ),
    (
        "experiments",
        "dataset: refshapes\nevaluation: {splits: val}\n",
        "evaluation.splits: needed a list, found 'val'",
    ),
    (
        "experiments",
        "dataset: refshapes\nexecution: {default: {worker: 3}}\n",
        "execution.default.worker: no such option; did you mean workers?",
    ),
    (
        "experiments",
        "dataset: refshapes\nstage1: {clip: {context: 3}}\n",
        "stage1.clip.context: no such option; did you mean context_length?",
    ),
    (
        "experiments",
        MASKS + "segmentor: {model: rela, clip: {contextlength: 9, model: RN50}}\n",
        "segmentor.clip.contextlength: no such option; did you mean context_length?",
    ),
    *NO_SECTIONS,
]
FILES = {
    "experiments": "experiments/new.yaml",
    "datasets": "datasets/new.yaml",
    "config": "config.yaml",
    "downloads": "downloads.yaml",
}


@pytest.mark.parametrize(("file", "text", "message"), WRONG)
def test_what_cannot_be_is_told_in_one_line_before_anything_runs(
    tmp_path: Path, file: str, text: str, message: str
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/refshapes.yaml").write_text("source: refshapes\n")
    (tmp_path / "experiments/refshapes_tris.yaml").write_text("dataset: refshapes\n")
    (tmp_path / "config.yaml").write_text("demo: refshapes_tris\n")
    path = tmp_path / FILES[file]
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        load_configs(tmp_path)
    assert str(raised.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("section", "given", "expected"),
    [
        (CrisOptions, {}, ("RN50", "RN50.pt", 17)),
        (CrisOptions, {"context_length": 22}, ("RN50", "RN50.pt", 22)),
        (CrisOptions, {"model": "RN50", "context_length": 22}, ("RN50", "RN50.pt", 22)),
        (CrisOptions, {"pretrained": "cc12m"}, ("RN50", None, 17)),
        (CrisOptions, {"model": "RN101"}, ("RN101", None, 20)),
        (DetrisOptions, {"weights": "mine.pt"}, ("ViT-B-16", "mine.pt", 17)),
        (Stage1, {"output_stride": 8}, ("RN50", "RN50.pt", 20)),
        (TrisOptions, {"output_stride": 8}, ("RN50", "RN50.pt", 20)),
    ],
)
def test_options_of_a_clip_complete_the_default_of_their_model(
    section: type[Segmentor] | type[Stage1],
    given: dict[str, Any],
    expected: tuple[str, str | None, int],
) -> None:
    for clip in (
        section.model_validate({"clip": given}).clip,
        section.model_validate_json(json.dumps({"clip": given})).clip,
    ):
        assert clip is not None
        name = clip.weights and clip.weights.name
        assert (clip.model, name, clip.context_length) == expected
        assert {key: str(value) for key, value in given.items()} == {
            key: str(getattr(clip, key)) for key in given
        }


def test_the_judge_is_completed_too() -> None:
    experiment = Experiment.model_validate({"dataset": "a", "judge": {"context_length": 30}})
    assert (experiment.judge.model, experiment.judge.context_length) == ("ViT-B-32", 30)
    assert experiment.judge.weights == Path("data/weights/ViT-B-32.pt")


def test_files_of_a_model_are_its_encoders() -> None:
    weights = Path("data/weights")
    assert Stage1().files == CrisOptions().files == [weights / "RN50.pt"]
    dino = {"dino": {"weights": "dino.pth"}}
    assert DetrisOptions.model_validate(dino).files == [weights / "ViT-B-16.pt", Path("dino.pth")]
    assert RelaOptions(backbone_weights=Path("swin.pth")).files == [Path("swin.pth")]


def test_the_encoder_of_a_description_is_known_from_its_file(tmp_path: Path) -> None:
    for vision, kind, patch in (
        ({"layers": [1, 1, 1, 1]}, "residual", None),
        ({"layers": 2, "patch_size": 8}, "transformer", 8),
    ):
        path = tmp_path / f"{kind}.json"
        path.write_text(json.dumps({"vision_cfg": vision}))
        source = ClipSource(model=str(path))
        assert (source.image_encoder, source.patch) == (kind, patch)
    absent = ClipSource(model=str(tmp_path / "absent.json"))
    assert (absent.image_encoder, absent.patch) == (None, None)
    assert ClipSource(model="ViT-H-14-378-quickgelu").patch == 14
    assert ClipSource(model="ViT-B-16-SigLIP").image_encoder == "other"
    assert ClipSource(model="RN50x4").image_encoder == "residual"


def test_all_findings_are_told_at_once(configs: Path) -> None:
    experiment = configs / "experiments/refshapes_generalized_rela.yaml"
    append(experiment, "prms: {batch_size: 0, other: 1}\n")
    append(configs / "datasets/refshapes.yaml", "nonsense: 1\n")
    with pytest.raises(InputError) as raised:
        load_configs(configs)
    assert len(str(raised.value).splitlines()) == 3


def step(samples: Path, masks: list[Path], config: Labels, workers: int = 2) -> None:
    """A step."""


def test_a_command_line_is_made_from_the_signature(tmp_path: Path) -> None:
    options = tmp_path / "labels.yaml"
    options.write_text("iterations: 3\n")
    command = ["--samples", "a.json", "--masks", "b", "c", "--config"]
    for text in ('{"iterations": 3}', str(options)):
        parsed = parser(step).parse_args([*command, text])
        assert parsed.samples == Path("a.json")
        assert parsed.masks == [Path("b"), Path("c")]
        assert parsed.config == Labels(iterations=3)
        assert parsed.workers == 2


def optional(model: Path | None = None, images: Path | None = None) -> None:
    """A step of things that there may be none of."""


def test_what_there_may_be_none_of_can_be_given_without_a_value() -> None:
    arguments = parser(optional).parse_args(["--images", "--model", "m.safetensors"])
    assert (arguments.model, arguments.images) == (Path("m.safetensors"), None)


def test_a_wrong_option_on_the_command_line_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser(step).parse_args(["--samples", "a", "--masks", "b", "--config", '{"iteration": 3}'])
    assert "iteration: no such option" in capsys.readouterr().err


def test_sections_survive_being_written_as_json() -> None:
    section = Stage1(epochs=3, max_grad_norm=0.5)
    assert parse_section(Stage1, section.model_dump_json()) == section


def test_every_row_of_a_published_table_says_what_it_should_reach() -> None:
    for name, experiment in load_configs(CONFIGS).experiments.items():
        assert set(experiment.published) <= set(experiment.evaluation.splits), name
        assert set(experiment.expected) <= set(experiment.evaluation.splits), name
        ours = experiment.dataset.startswith("refshapes") or name.startswith("beyond_")
        is_row = not ours and not name.endswith("_corrected")
        assert bool(experiment.published) == is_row, name


def test_execution_is_that_of_a_step_then_of_all_then_the_default() -> None:
    chosen = {"default": {"workers": 2, "save_every": 50}, "train_segmentor": {"workers": 8}}
    experiment = Experiment.model_validate({"dataset": "refshapes", "execution": chosen})
    assert experiment.execution_of("train_stage1") == Execution(workers=2, save_every=50)
    assert experiment.execution_of("train_segmentor") == Execution(workers=8, save_every=50)
    assert Experiment(dataset="refshapes").execution_of("train_affinity") == Execution()


def test_a_name_that_is_too_long_for_files_is_refused() -> None:
    assert name_fault("a" * 150) is None
    assert name_fault("a" * 151) == "151 characters; needed at most 150"


def test_an_execution_option_is_of_the_steps_that_use_it() -> None:
    chosen = {"default": {"workers": 2, "crf": "torch"}, "make_labels": {"crf": "pydensecrf"}}
    experiment = Experiment.model_validate({"dataset": "refshapes", "execution": chosen})
    assert experiment.execution_of("make_labels").crf == "pydensecrf"
    assert experiment.execution_of("train_stage1").crf == "torch"
    for step, option in {"make_labels": {"workers": 3}, "train_stage1": {"crf": "torch"}}.items():
        with pytest.raises(ValueError, match=f"execution.{step}: {step} has no use for"):
            Experiment.model_validate({"dataset": "refshapes", "execution": {step: option}})


def write_experiments(folder: Path, **texts: str) -> Path:
    for kind in ("experiments", "datasets"):
        (folder / kind).mkdir()
    for name in ("refshapes", "other"):
        (folder / f"datasets/{name}.yaml").write_text("source: refshapes\n")
    for name, text in texts.items():
        (folder / f"experiments/{name}.yaml").write_text(text)
    (folder / "config.yaml").write_text("demo: row\n")
    return folder


def test_published_figures_are_inherited_on_the_same_data_set_alone(tmp_path: Path) -> None:
    loaded = load_configs(
        write_experiments(
            tmp_path,
            row="dataset: refshapes\npublished: {val: {mean_iou: 50, overall_iou: 40}}\n",
            variant="base: row\n",
            of_other="base: row\ndataset: other\n",
            own="base: row\npublished: {val: {mean_iou: 30}}\n",
            unknown="base: row\npublished: {val: {}}\n",
        )
    )
    published = {name: each.published for name, each in loaded.experiments.items()}
    row = {"val": {"mean_iou": 50, "overall_iou": 40}}
    assert published == {
        "row": row,
        "variant": row,
        "of_other": {},
        "own": {"val": {"mean_iou": 30}},
        "unknown": {"val": {}},
    }
    assert loaded.experiments["unknown"].ranges("val") == {}


def test_a_data_set_makes_its_rows_and_leaves_out_what_only_imports(tmp_path: Path) -> None:
    loaded = load_configs(
        write_experiments(
            tmp_path,
            row="dataset: refshapes\npublished: {val: {mean_iou: 50}}\n",
            unknown="dataset: refshapes\npublished: {val: {}}\n",
            mine="dataset: refshapes\n",
            released="base: row\ncheckpoint: a.pth\n",
            imported="dataset: other\ncheckpoint: a.pth\n",
        )
    )
    assert loaded.of_dataset("refshapes") == ["row", "unknown"]
    assert loaded.of_dataset("other") == ["imported"]
