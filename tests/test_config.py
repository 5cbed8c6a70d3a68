"""Wrong options stop at once, with file, field and remedy; command lines come from signatures."""

import shutil
from pathlib import Path

import pytest

from stages.config.findings import parse_section
from stages.config.load import load_configs
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
            r"new.yaml: supervision: needed masks, pseudo or pseudo:<experiment>, found 'both'",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsupervision: masks\nstage1_checkpoint: a.pth\n",
            r"new.yaml: stage1_checkpoint with supervision masks: no stage 1 here; needed",
        ),
        (
            "experiments/new.yaml",
            "dataset: refshapes\nsegmentor: {model: criss}\n",
            r"new.yaml: segmentor.model: no such model; needed tris, .* found 'criss'",
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
            r"refshapes.yaml: a data set has this name too",
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


def test_all_findings_are_told_at_once(configs: Path) -> None:
    append(configs / "experiments/refshapes_tris.yaml", "prms: {batch_size: 0, other: 1}\n")
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
    section = Stage1(epochs=3, clip_norm=0.5)
    assert parse_section(Stage1, section.model_dump_json()) == section


def test_every_row_of_a_published_table_says_what_it_should_reach() -> None:
    for name, experiment in load_configs(CONFIGS).experiments.items():
        assert set(experiment.published) <= set(experiment.evaluation.splits), name
        assert set(experiment.expected) <= set(experiment.evaluation.splits), name
        assert bool(experiment.published) != experiment.dataset.startswith("refshapes"), name
