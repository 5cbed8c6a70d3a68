"""Unpacks an archive again and again, killed or doubled at random moments, and prints what is left.

    python -m tests.unpack_under_attack killed|doubled FOLDER

Of each round: whether the content counts as there after the attack, the files there then, and those
after the next fetch. A process of its own, since it forks: it has one thread.
"""

import json
import logging
import os
import random
import signal
import sys
import time
import zipfile
from pathlib import Path

from stages.config.settings import RemoteFile
from stages.data.download import fetch

ROUNDS = 20
NUM_FILES = 120

FILE = RemoteFile(
    path=Path("images/pictures.zip"),
    source="here",
    license="MIT",
    urls=("http://127.0.0.1:9/pictures.zip",),  # nobody listens there: the archive is put by hand
    unpack=Path("images"),
    gives=(Path("images/pictures"),),
)


def put_archive(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    with zipfile.ZipFile(folder / FILE.path, "w") as archive:
        for index in range(NUM_FILES):
            archive.writestr(f"pictures/{index}.jpg", f"{index}" * 50)


def start(folder: Path) -> int:
    """Fetch in a child process, which ends with 0 if that worked."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fetch(FILE, folder)
            status = 0
        finally:
            os._exit(status)
    return child


def end(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def count(folder: Path) -> int:
    """The files that are there in full."""
    paths = folder.glob("images/pictures/*.jpg")
    return sum(path.read_text() == path.stem * 50 for path in paths)


def is_taken_as_there(folder: Path) -> bool:
    """Whether another fetch leaves everything as it is."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    end(start(folder))
    return before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def duration(folder: Path) -> float:
    put_archive(folder)
    begin = time.monotonic()
    assert end(start(folder)) == 0
    return time.monotonic() - begin


def main(attack: str, folder: Path) -> None:
    moments = random.Random(0)
    length = duration(folder / "whole")
    for number in range(ROUNDS):
        place = folder / str(number)
        put_archive(place)
        children = [start(place)]
        time.sleep(moments.uniform(0, length))
        if attack == "killed":
            os.kill(children[0], signal.SIGKILL)
        else:
            children.append(start(place))
        statuses = [end(child) for child in children]
        left = count(place)
        complete = is_taken_as_there(place)
        print(json.dumps([statuses, left, complete, count(place)]), flush=True)


if __name__ == "__main__":
    logging.disable()
    main(sys.argv[1], Path(sys.argv[2]))
