"""The image cache: correct, built once, and complete after failures."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from severstal_cli import files
from severstal_cli.errors import InputError, OutputError
from severstal_cli.progress import Bar, Progress
from severstal_cli.steel.images import cache, decoding
from severstal_cli.steel.images.decoding import cv2

SLOW_BUILD = """
import sys, time
from pathlib import Path
from severstal_cli.steel.images import cache, decoding

read = decoding.read_grey
def slow(path, *bits):
    sys.stdout.write("reading\\n")  # one write, as threads meet here
    sys.stdout.flush()
    time.sleep(float(sys.argv[2]))
    return read(path, *bits)
decoding.read_grey = slow
class Told(cache.Progress):
    def say(self, line): print(line, flush=True)
cache.open_cache(Path(sys.argv[1]), Told())
print("done", flush=True)
"""


class Counting(Progress):
    """Counts the bars and keeps the log lines."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, int, str]] = []
        self.steps = 0

    def bar(self, label: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        self.bars.append((label, total, unit))
        counting = self

        class Steps(Bar):
            def advance(self, steps: int = 1, note: str = "") -> None:
                counting.steps += steps

        return nullcontext(Steps())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of different sizes: image k is (4 + k, 10), all pixels k."""
    folder = tmp_path / "data" / "train_images"
    folder.mkdir(parents=True)
    for number in range(12):
        write(folder / f"{number:02}.png", number)
    return folder


def write(path: Path, number: int) -> None:
    path.write_bytes(cv2.imencode(".png", np.full((4 + number, 10), number, np.uint8))[1].tobytes())


def assert_right(opened: cache.ImageCache) -> None:
    assert opened.image_ids == tuple(f"{number:02}.png" for number in range(12))
    assert opened.sizes.tolist() == [[4 + number, 10] for number in range(12)]
    assert len(opened) == 12
    for number in range(12):
        assert opened.index[f"{number:02}.png"] == number
        assert opened[number].shape == (4 + number, 10)
        assert (opened[number] == number).all()


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_it_holds_the_images_and_is_built_once(folder: Path) -> None:
    first, second = Counting(), Counting()
    assert_right(cache.open_cache(folder, first))
    assert first.bars == [("reading images", 12, "images")]
    assert first.steps == 12
    assert_right(cache.open_cache(folder, second))
    assert second.bars == []
    kinds = sorted(name.rsplit(".", 1)[1] for name in names(folder.parent / ".severstal"))
    assert kinds == ["json", "lock", "pixels"]


def test_images_are_read_only_views_and_pickle_small(folder: Path) -> None:
    opened = cache.open_cache(folder)
    with pytest.raises(ValueError, match="read-only"):
        opened[3][0, 0] = 1
    assert np.shares_memory(opened[3], opened[3])
    with pytest.raises(IndexError):
        opened[12]
    assert (opened[-1] == 11).all()
    data = pickle.dumps(opened)
    assert len(data) < 1000 + 50 * 12
    assert_right(pickle.loads(data))


@pytest.mark.parametrize("change", ["content", "added", "removed", "renamed"])
def test_a_changed_folder_is_read_again(folder: Path, change: str) -> None:
    cache.open_cache(folder)
    if change == "content":
        write(folder / "05.png", 77)
    elif change == "added":
        write(folder / "99.png", 99)
    elif change == "removed":
        (folder / "05.png").unlink()
    else:
        (folder / "05.png").rename(folder / "55.png")
    progress = Counting()
    opened = cache.open_cache(folder, progress)
    assert progress.bars
    assert opened.image_ids == tuple(names(folder))
    for image_id, image in zip(opened.image_ids, opened, strict=True):
        np.testing.assert_array_equal(image, decoding.read_grey(folder / image_id))
    assert len([name for name in names(folder.parent / ".severstal") if name.endswith(".pixels")]) == 1


def test_folders_of_like_names_keep_their_own(folder: Path) -> None:
    """Sweeping the caches of train_images must leave those of train_images-old alone."""
    other = folder.with_name("train_images-old")
    shutil.copytree(folder, other)
    cache.open_cache(other)
    cache.open_cache(folder)
    write(folder / "99.png", 99)
    cache.open_cache(folder)
    progress = Counting()
    cache.open_cache(other, progress)
    assert progress.bars == []


@pytest.mark.parametrize("damage", ["short", "long", "no pixels", "no index", "bad index", "other index"])
def test_a_damaged_cache_is_built_again(folder: Path, damage: str) -> None:
    pixels = cache.open_cache(folder).path
    index = pixels.with_suffix(".json")
    if damage == "short":
        os.truncate(pixels, 100)
    elif damage == "long":
        pixels.write_bytes(pixels.read_bytes() + b"\0")
    elif damage == "no pixels":
        pixels.unlink()
    elif damage == "no index":
        index.unlink()
    elif damage == "bad index":
        index.write_text('{"image_ids": ["00.pn')
    else:
        index.write_text(json.dumps({"image_ids": ["00.png"]}))
    progress = Counting()
    assert_right(cache.open_cache(folder, progress))
    assert progress.bars


def test_a_bad_image_leaves_nothing_behind(folder: Path) -> None:
    data = (folder / "07.png").read_bytes()
    (folder / "07.png").write_bytes(data[:-20])
    with pytest.raises(InputError, match=r"07\.png: the image is cut short"):
        cache.open_cache(folder)
    assert names(folder.parent / ".severstal") == ["train_images.lock"]


def test_a_full_disk_is_reported_before_and_while_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum((4 + number) * 10 for number in range(12))
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(OutputError, match=f"{needed:,} bytes needed, {needed - 1:,} free"):
        cache.open_cache(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(cache, "map_in_order", full)
        with pytest.raises(OutputError, match="No space left on device"):
            cache.open_cache(folder)
    assert names(folder.parent / ".severstal") == ["train_images.lock"]
    assert_right(cache.open_cache(folder))


def test_read_only_data_uses_the_cache_of_the_user(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.is_writable
    data = folder.parent
    monkeypatch.setattr(files, "is_writable", lambda place: not place.is_relative_to(data) and real(place))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    opened = cache.open_cache(folder)
    assert_right(opened)
    assert opened.path.is_relative_to(tmp_path / "user" / "severstal")
    assert names(data) == ["train_images"]
    progress = Counting()
    assert_right(cache.open_cache(folder, progress))
    assert progress.bars == []


def test_a_cache_in_read_only_data_is_used_if_it_fits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.open_cache(folder)
    data = folder.parent
    monkeypatch.setattr(files, "is_writable", lambda place: not place.is_relative_to(data))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    progress = Counting()
    assert cache.open_cache(folder, progress).path.is_relative_to(data)
    assert progress.bars == []
    before = names(data / ".severstal")
    write(folder / "99.png", 99)  # the copy was mounted with other times: the cache that came along does not fit
    assert cache.open_cache(folder, progress).path.is_relative_to(tmp_path / "user")
    assert names(data / ".severstal") == before


def test_a_killed_build_is_followed_by_a_good_one(folder: Path) -> None:
    build = subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(folder), "1"], stdout=subprocess.PIPE, text=True)
    assert build.stdout is not None
    place = folder.parent / ".severstal"
    for _ in range(4):  # the file is open, some images are in it
        assert build.stdout.readline() == "reading\n"
    left = names(place)
    build.send_signal(signal.SIGKILL)
    build.wait()
    build.stdout.close()
    assert any(name.endswith(".part") for name in left)
    assert not any(name.endswith((".pixels", ".json")) for name in left)
    assert_right(cache.open_cache(folder))
    assert not any(name.endswith(".part") for name in names(place))


def test_two_processes_build_it_once(folder: Path) -> None:
    command = [sys.executable, "-c", SLOW_BUILD, str(folder), "0.2"]
    builds = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [build.communicate(timeout=600)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    assert sorted(text.count("reading\n") for text in printed) == [0, 12]
    assert all(text.endswith("done\n") for text in printed)
    assert_right(cache.open_cache(folder))


def read_in_child(opened: cache.ImageCache, answers: "multiprocessing.Queue[int]") -> None:
    answers.put(int(opened[7].sum()))


def test_another_process_maps_it_too(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=read_in_child, args=(cache.open_cache(folder), answers))
    child.start()
    assert answers.get(timeout=600) == 7 * 11 * 10
    child.join()


def test_images_stay_in_the_file(folder: Path) -> None:
    """Nothing is held in memory: a change of the file appears in the image."""
    opened = cache.open_cache(folder)
    with opened.path.open("r+b") as file:
        file.write(b"\x63")
    assert opened[0][0, 0] == 0x63


def test_pixels_have_a_fingerprint_that_is_kept(folder: Path) -> None:
    before = cache.open_cache(folder)
    assert cache.open_cache(folder).pixels_fingerprint == before.pixels_fingerprint
    assert pickle.loads(pickle.dumps(before)).pixels_fingerprint == before.pixels_fingerprint
    touched = folder / "05.png"
    touched.write_bytes(touched.read_bytes())  # other times, the same pixels
    assert cache.open_cache(folder).pixels_fingerprint == before.pixels_fingerprint
    write(touched, 77)  # the same size
    assert cache.open_cache(folder).pixels_fingerprint != before.pixels_fingerprint
    write(touched, 5)
    assert cache.open_cache(folder).pixels_fingerprint == before.pixels_fingerprint


def test_16_bit_files_are_scaled_by_the_bits_of_the_folder(folder: Path) -> None:
    grey = decoding.read_grey(folder / "05.png")
    assert cache.open_cache(folder).bits is None
    cv2.imwrite(str(folder / "05.png"), grey.astype(np.uint16) << 4)
    cv2.imwrite(str(folder / "06.png"), np.full((10, 10), 4095, np.uint16))
    progress = Counting()
    opened = cache.open_cache(folder, progress)
    assert opened.bits == 12
    np.testing.assert_array_equal(opened[5], grey)
    assert (opened[6] == 255).all()
    assert (opened[7] == 7).all()  # an 8-bit file is as it was
    by_others = cache.open_cache(folder, bits=14)
    assert by_others.bits == 14
    assert (by_others[6] == 63).all()
    with pytest.raises(InputError, match="its set uses 10 bits"):
        cache.open_cache(folder, bits=10)


def test_notes_are_logged_at_every_opening(folder: Path, heard) -> None:
    cv2.imwrite(str(folder / "06.png"), np.full((10, 10), 4095, np.uint16))
    (folder / "notes.txt").touch()
    cache.open_cache(folder, heard)
    first = list(heard.lines)
    cache.open_cache(folder, heard)
    assert heard.lines == [*first, *first]
    assert [line.partition(" ")[2][:7] for line in first] == ["ignored", "of 12 i"]


def test_a_cache_of_an_earlier_version_is_made_again(folder: Path) -> None:
    index = cache.open_cache(folder).path.with_suffix(".json")
    content = json.loads(index.read_text())
    index.write_text(json.dumps({name: content[name] for name in ("image_ids", "sizes")}))
    progress = Counting()
    assert_right(cache.open_cache(folder, progress))
    assert progress.bars
