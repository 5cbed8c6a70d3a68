"""Files that hold something else, errors of libraries, and names of GPUs: told in one line."""

import errno
import logging
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stages.config.load import check_run_options
from stages.config.variants import parse_changes
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.runtime.file_kinds import describe_file
from stages.runtime.foreign_errors import explain, one_line, printable
from stages.runtime.gpu_names import visible_gpus
from stages.storage.matching import load_exactly
from stages.storage.weights import load_weights, read_published

CASES = Path(__file__).parent / "cases"
WEIGHTS = {"a": torch.arange(40.0)}


def cut(write: Callable[[Path], object]) -> Callable[[Path], object]:
    """Writes the first half of a file."""

    def write_half(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return write_half


def zipped(name: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")

    return write


def torch_file(path: Path) -> None:
    torch.save(WEIGHTS, path)


def safetensors_file(path: Path) -> None:
    save_file(WEIGHTS, path)


def text_file(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text)


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (text_file(b""), "it is an empty file"),
    "zeros": (text_file(bytes(2000)), "a file of zeros"),
    "web page": (text_file(b"\n <HTML><body>404"), r"it is a web page \(HTML\)"),
    "pointer": (text_file(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "gzip": (text_file(b"\x1f\x8b\x08\x00"), "compressed by gzip: unpack it first"),
    "tar": (text_file(bytes([97]) * 257 + b"ustar" + bytes(300)), "a tar archive"),
    "zip": (zipped("model.bin"), "a zip archive: unpack it first"),
    "workbook": (zipped("xl/workbook.xml"), "an Excel workbook: save it as CSV"),
    "cut torch": (cut(torch_file), "a zip archive .*that is truncated"),
    "cut safetensors": (
        cut(safetensors_file),
        r"a safetensors file that is truncated \(",
    ),
    "words": (text_file(b"not weights at all"), "text"),
    "image": (text_file((CASES / "mask_palette/m.png").read_bytes()), "it is a PNG image"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_that_holds_no_weights_is_named_by_what_it_is(
    tmp_path: Path, name: str, ending: str
) -> None:
    write, message = OTHERS[name]
    path = tmp_path / f"best{ending}"
    write(path)
    with pytest.raises(InputError, match=rf"not (weights|a whole .*) \(.*{message}") as caught:
        read_published(path)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match=rf"not a whole safetensors file \(.*{message}"):
        load_weights(path)


def test_the_content_of_a_file_counts_and_not_its_ending(tmp_path: Path) -> None:
    for write, name in ((safetensors_file, "a.pth"), (torch_file, "a.safetensors")):
        write(tmp_path / name)
        assert torch.equal(read_published(tmp_path / name)["a"], WEIGHTS["a"])


@pytest.mark.parametrize("is_zip", [True, False])
def test_the_class_that_a_pickle_asks_for_is_named(tmp_path: Path, is_zip: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save({"args": Namespace()}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(InputError, match=r"a pickle with argparse\.Namespace, which is not loaded"):
        read_published(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("import_html", r"it is a web page \(HTML\), .*: fetch it again"),
        ("import_args_namespace", r"a pickle with argparse\.Namespace, which is not loaded"),
    ],
)
def test_the_cases_of_import_are_named(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_published(CASES / name / "a.pth")
    assert "\x1b" not in str(caught.value) and "weights_only" not in str(caught.value)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    layer = nn.Linear(2, 1)
    state = {**layer.state_dict(), "bias": torch.tensor([float("nan")])}
    with pytest.raises(InputError, match=r"m\.pth: bias has values that are not finite"):
        load_exactly(layer, state, "m.pth")
    assert layer.bias.isfinite().all()


def test_a_file_that_is_what_it_should_be_is_not_misread(tmp_path: Path) -> None:
    torch_file(tmp_path / "a")
    assert describe_file(tmp_path / "a") == "a PyTorch file"
    safetensors_file(tmp_path / "b")
    assert describe_file(tmp_path / "b") == "a safetensors file"
    (tmp_path / "c").write_text("image,expression\n")
    assert describe_file(tmp_path / "c") == "text"
    assert describe_file(tmp_path) == "a folder" and describe_file(tmp_path / "no") is None


# Errors


def test_no_control_character_of_a_user_reaches_the_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert printable("a\x1b[31m\x9b\u202e\ud83d\x07b\n\tc") == (
        "a\\x1b[31m\\x9b\\u202e\\ud83d\\x07b\n\tc"
    )
    assert one_line("\x1b[31mred\x1b[0m\n  and more") == "red and more"

    def run() -> None:
        raise InputError("a.csv: '\x1b]0;owned\x07'")

    monkeypatch.setattr("sys.argv", ["step"])
    with pytest.raises(SystemExit) as ended:
        main(run)
    assert ended.value.code == "error: a.csv: '\\x1b]0;owned\\x07'"


def test_errors_of_files_are_a_line_and_bugs_are_not() -> None:
    assert explain(PermissionError(13, "x", "/a\x1b")) == "/a\\x1b: Permission denied"
    full = OSError(errno.ENOSPC, "x", "source", None, "copy")
    assert explain(full) == "copy: No space left on device"
    assert explain(FileNotFoundError("m: no such file")) == "m: no such file"
    assert explain(pa.ArrowInvalid("bad\nmagic")) == (
        "a file cannot be read or written (pyarrow: bad magic)"
    )
    assert explain(ValueError("a bug")) is None and explain(KeyError("x")) is None


def test_options_of_the_run_that_are_not_known_are_named() -> None:
    check_run_options({"configs": "c", "results": "r", "set": "seed=1"})
    with pytest.raises(InputError, match=r"--config result: not known; did you mean results\?"):
        check_run_options({"result": "r"})
    with pytest.raises(InputError, match=r'segmentor\.epochs: not known; known: .*set="segmentor'):
        check_run_options({"segmentor.epochs": 5})
    with pytest.raises(ValueError, match="seed stands twice"):
        parse_changes("seed=1 seed=2")
    with pytest.raises(ValueError, match=r"'a=\[': not YAML"):
        parse_changes("a=[")


# GPUs

UUID = "8932f937-d72c-4106-c12f-20bd9faed9f6"
NAMES = {
    "": [],
    " ": [],
    "-1": [],
    "NoDevFiles": [],
    "none": [],
    "0,1": ["0", "1"],
    " 0 , 1 ": ["0", "1"],
    "0,0": ["0"],
    "0,00": ["0"],
    "1,-1,2": ["1"],
    "0,,2": ["0"],
    "2,gpu1,0": ["2"],
    f"GPU-{UUID},GPU-8932": [f"GPU-{UUID}", "GPU-8932"],
    f"MIG-{UUID}": [f"MIG-{UUID}"],
    f"MIG-GPU-{UUID}/1/0, MIG-GPU-{UUID}/2/0": [f"MIG-GPU-{UUID}/{n}/0" for n in (1, 2)],
}


@pytest.mark.parametrize("text", NAMES)
def test_gpus_are_those_that_cuda_would_see(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert visible_gpus() == NAMES[text]


@pytest.mark.parametrize("text", ["0,0", "2,gpu1"])
def test_names_that_are_not_used_are_told(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    with caplog.at_level(logging.WARNING):
        visible_gpus()
    assert "CUDA_VISIBLE_DEVICES: " in caplog.text
