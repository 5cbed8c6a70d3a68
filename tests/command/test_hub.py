"""Weights from and to the Hugging Face hub, against a server on this machine."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file, save

from risflow import load
from risflow.project.hub import fetch_into_project
from stages.config.catalog import Catalog, contents_of
from stages.config.encoders import ClipSource
from stages.config.experiment import Experiment
from stages.config.hub import HubFile, hub_file_at, parse_hub_name
from stages.config.load import load_configs
from stages.config.requirements import files_of_experiment, missing
from stages.config.segmentors import CrisOptions, RelaOptions, TrisOptions
from stages.config.steps import Affinity
from stages.data.hub import download
from stages.models.saved import describe
from stages.runtime.errors import InputError
from stages.storage.files import write_json
from stages.storage.weights import read_published, save_weights
from tests.command.conftest import Command
from tests.conftest import ROOT
from tests.hub_server import TOKEN, Hub, hub

WEIGHTS = save({"visual": torch.arange(600.0)})  # a file of two kilobytes
LINE = "hf:somebody/encoders/clip/RN50.safetensors"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that is asked instead of the public one, and an empty cache."""
    with hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield running


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stage 1 and segmentor begin with weights of the hub."""
    folder = tmp_path / "project"
    configs, data = folder / "configs", folder / "data"
    data.mkdir(parents=True)
    for kind, name, content in [
        ("datasets", "mine", {"source": "table", "annotations": "a.csv", "images": "photos"}),
        (
            "experiments",
            "mine_masks",
            {
                "dataset": "mine",
                "supervision": "masks",
                "segmentor": {"model": "cris", "clip": {"weights": LINE}},
            },
        ),
    ]:
        (configs / kind).mkdir(parents=True)
        (configs / kind / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (configs / "config.yaml").write_text("demo: mine_masks")
    (folder / "a.csv").write_text("image,expression\n")
    (folder / "photos").mkdir()
    monkeypatch.chdir(folder)
    return folder


# --------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("hf:a/b/c.pt", "data/weights/hf/a/b/c.pt"),
        ("hf:a/b.c/d/e.pt@v1.0", "data/weights/hf/a/b.c@v1.0/d/e.pt"),
    ],
)
def test_a_name_of_the_hub_has_one_place_in_a_project(name: str, path: str) -> None:
    file = parse_hub_name(name)
    assert str(file) == name and file.path == Path(path)
    assert hub_file_at(file.path) == file


@pytest.mark.parametrize(
    "name",
    ["hf:a", "hf:a/b", "hf:a/b/", "hf:/b/c", "hf:a/b/c@", "hf:a/../c/d", "hf:a/b/../../c", "hf:"],
)
def test_what_is_no_name_of_the_hub_is_refused_with_its_form(name: str) -> None:
    with pytest.raises(ValueError, match="needed hf:owner/name/file"):
        parse_hub_name(name)
    with pytest.raises(ValueError, match="needed hf:owner/name/file"):
        ClipSource(model="RN50", weights=Path(name))
    with pytest.raises(ValueError, match="needed hf:owner/name/file"):
        CrisOptions(initialize=name)


def test_every_option_that_names_weights_takes_the_hub() -> None:
    name, place = "hf:a/b/c.pth@v1", Path("data/weights/hf/a/b@v1/c.pth")
    rela = {"backbone_weights": name, "text_weights": name, "vocabulary": name}
    assert set(RelaOptions.model_validate(rela).files) == {place}
    assert Affinity.model_validate({"weights": name}).files == [place]
    assert CrisOptions.model_validate({"initialize": name}).training_files == [place]
    detris = {"model": "detris", "dino": {"weights": name}, "clip": {"weights": name}}
    named = {
        "dataset": "mine",
        "judge": {"model": "RN50", "weights": name},
        "segmentor": detris,
        "checkpoint": name,
        "stage1_checkpoint": name,
    }
    experiment = Experiment.model_validate(named)
    assert experiment.segmentor.files == [place, place]
    given = (experiment.judge.weights, experiment.checkpoint, experiment.stage1_checkpoint)
    assert given == (place, place, place)
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


# ---------------------------------------------------------------------------------- a project


def test_weights_of_an_experiment_are_fetched_once_and_count_by_content(
    server: Hub,
    project: Path,
    risflow: Command,
) -> None:
    server.put("somebody/encoders", "clip/RN50.safetensors", WEIGHTS)
    configs = load_configs(Path("configs"))
    needed = files_of_experiment("mine_masks", configs)
    place = Path("data/weights/hf/somebody/encoders/clip/RN50.safetensors")
    assert place in needed and server.asked == [], "planning asks no server"
    assert missing("mine_masks", needed, configs) == (
        f"mine_masks needs {place}: not there; `risflow fetch {LINE}` gets what is of the hub;"
        " data/README.md says what belongs there"
    )
    done = risflow("fetch", LINE)
    assert done.exit_code == 0, done.output
    assert missing("mine_masks", needed, configs) is None
    assert place.is_symlink() and place.read_bytes() == WEIGHTS
    assert set(read_published(place)) == {"visual"}

    def digest() -> str:
        products = Catalog(configs, Path("results"), contents_of(Path("results"))).products
        return products.of_experiment("mine_masks")["segmentor"].digest

    linked = digest()
    place.unlink()
    place.write_bytes(WEIGHTS)  # the same content, put there by hand
    assert digest() == linked
    asked = len(server.asked)
    assert risflow("fetch", LINE).exit_code == 0 and len(server.asked) == asked, "it is there"


def test_a_file_that_changes_on_the_hub_is_not_taken_for_the_first(
    server: Hub, project: Path
) -> None:
    server.put("somebody/encoders", "clip/RN50.safetensors", WEIGHTS)
    fetch_into_project(LINE, Path("data")).unlink()
    server.put("somebody/encoders", "clip/RN50.safetensors", save({"other": torch.ones(600)}))
    with pytest.raises(InputError, match="other bytes than at the first fetch; to take the new"):
        fetch_into_project(LINE, Path("data"))


# ---------------------------------------------------------------------------------- downloads


def test_what_was_fetched_needs_no_network(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # retries at once
    server.put("a/b", "c.safetensors", WEIGHTS)
    first = download(HubFile("a/b", "c.safetensors"))
    server.shutdown()
    server.server_close()
    assert download(HubFile("a/b", "c.safetensors")) == first
    with pytest.raises(InputError) as error:
        download(HubFile("a/b", "d.safetensors"))
    message = str(error.value)
    assert message.startswith("hf:a/b/d.safetensors: not in the cache, and the hub is not reached")
    assert "\n" not in message and message.endswith("; needed a network")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:a/none/c.pt", "no such repository, or a private one; needed its right name, or `hf"),
        ("hf:a/secret/c.pt", "no such repository, or a private one"),
        ("hf:a/gated/c.pt", "needs access, which its page gives on request"),
        ("hf:a/b/none.pt", "no such file in a/b; its page lists them"),
        ("hf:a/b/c.safetensors@old", "no such revision of a/b; needed a branch, a tag or a commit"),
        ("hf:a/b/page.pt", "a page of HTML"),
        ("hf:a/b/cut.safetensors", "no safetensors file, or a cut one|needed "),
    ],
)
def test_what_cannot_be_had_is_one_line(server: Hub, name: str, message: str) -> None:
    server.put("a/b", "c.safetensors", WEIGHTS)
    server.put("a/b", "page.pt", b"<!DOCTYPE html><html>Sign in</html>" * 60)
    server.put("a/b", "cut.safetensors", WEIGHTS[:-100])
    server.put("a/secret", "c.pt", WEIGHTS, private=True)
    server.put("a/gated", "c.pt", WEIGHTS, gated=True)
    with pytest.raises(InputError, match=message) as error:
        download(parse_hub_name(name))
    assert str(error.value).startswith(f"{name}: ") and "\n" not in str(error.value)


def test_a_private_file_is_read_with_the_token(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("a/secret", "c.safetensors", WEIGHTS, private=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert download(HubFile("a/secret", "c.safetensors")).read_bytes() == WEIGHTS


class Code:
    """What a pickle could run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code of the file is run",))


def test_a_pickle_of_the_hub_runs_no_code(
    server: Hub, risflow: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.save({"weights": torch.ones(1000), "more": Code()}, tmp_path / "evil.pth")
    server.put("a/b", "evil.pth", (tmp_path / "evil.pth").read_bytes())
    server.put("a/b", "plain.pth", pickle.dumps(Code()) + b" " * 2000)
    for name in ("evil.pth", "plain.pth"):
        out = tmp_path / "model.safetensors"
        done = risflow("import", f"hf:a/b/{name}", "--system", "cris", "--out", out)
        assert done.exit_code == 1 and not out.exists()
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "code of the file is run" not in capfd.readouterr().out


def test_a_model_of_the_hub_names_no_file_outside_of_its_repository(
    server: Hub, project: Path, tmp_path: Path
) -> None:
    clip = ClipSource(model="../../../../evil.json")
    about = describe("tris", TrisOptions(clip=clip))
    save_weights(tmp_path / "model.safetensors", {"a": torch.ones(600)}, about)
    server.put("a/b", "model.safetensors", (tmp_path / "model.safetensors").read_bytes())
    server.put("a/b", "../../../../evil.json", b"{}")
    with pytest.raises(InputError, match=r"evil\.json: needed hf:owner/name/file"):
        fetch_into_project("hf:a/b/model.safetensors", Path("data"))
    assert not list(tmp_path.rglob("evil.json"))


# ---------------------------------------------------------------------------------------- push


@pytest.fixture
def trained(project: Path, model: Path) -> Path:
    """A project with a model of an experiment, its provenance and its scores."""
    folder = project / "results/refshapes_tris/segmentor"
    folder.mkdir(parents=True)
    shutil.copyfile(model, folder / "model.safetensors")
    write_json(folder / "run.json", {"finished": "2026-01-01", "torch": "2.11"})
    (folder.parent / "steps.yaml").touch()
    for name in ("experiments/refshapes_tris", "experiments/refshapes_tris_masks"):
        shutil.copy(ROOT / f"configs/{name}.yaml", project / "configs/experiments")
    shutil.copy(ROOT / "configs/datasets/refshapes.yaml", project / "configs/datasets")
    shutil.copy(ROOT / "data/small_clip.json", project / "data")
    return project


def test_a_pushed_model_predicts_from_the_hub_elsewhere(
    server: Hub,
    trained: Path,
    risflow: Command,
    image_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = risflow("push", "refshapes_tris", "me/shapes", "--private")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == f"{server.address}/me/shapes"
    repository = server.repositories["me/shapes"]
    assert repository.private and repository.large == {"model.safetensors"}
    assert set(repository.files) == {"README.md", "model.safetensors", "data/small_clip.json"}
    card = repository.files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["pipeline_tag"] == "image-segmentation" and "tris" in head["tags"]
    for text in (
        "# shapes\n",
        'risflow predict photo.jpg "the red cup" --model hf:me/shapes/model.safetensors',
        "`refshapes`, learned from images and expressions alone, without true masks",
        "finished: 2026-01-01",
        "epochs: ",
    ):
        assert text in card, text

    own = trained / "results/refshapes_tris/segmentor/model.safetensors"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    done = risflow("predict", image_file, "the red square", "--model", done_name(card))
    assert done.exit_code == 0, done.output
    assert list((elsewhere / "predictions").glob("*.mask.png"))
    fetched = load("hf:me/shapes/model.safetensors")
    assert fetched.path != own
    pushed, local = load_file(fetched.path), load_file(own)
    assert all(torch.equal(pushed[name], local[name]) for name in local)


def done_name(card: str) -> str:
    """The model that the card says to use."""
    return card.split("--model ")[1].split()[0]


@pytest.mark.parametrize(
    ("arguments", "token", "message"),
    [
        (("me/shapes",), "", "push: no token of the hub; needed `hf auth login`, or HF_TOKEN"),
        (("me/shapes",), "hf_wrong", "the hub does not know the token"),
        (("others/shapes",), TOKEN, "the token has no right to write there"),
        (("me/public", "--private"), TOKEN, "--private: me/public is there and public"),
        (("shapes",), TOKEN, "'shapes' is no repository; needed owner/name"),
        (("me/a/b",), TOKEN, "'me/a/b' is no repository; needed owner/name"),
        (("me/shapes", "--stage", "stage1"), TOKEN, "not made yet: snakemake --cores all refsh"),
    ],
)
def test_what_keeps_a_push_from_being_done_is_one_line(
    server: Hub,
    trained: Path,
    risflow: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    token: str,
    message: str,
) -> None:
    server.put("me/public", "old", b"old")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    done = risflow("push", "refshapes_tris", *arguments)
    assert done.exit_code == 1 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not any(path.endswith("/commit/main") for path in server.asked)
