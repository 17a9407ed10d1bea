"""Synthetic steel as files: the same from the same seed, whole or not complete, and never over other files."""

import hashlib
import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from severstal_cli.errors import InputError, MachineError, OutputError
from severstal_cli.progress import Bar, Progress
from severstal_cli.steel.masks import rle
from severstal_cli.steel.synth import series, write_synthetic_set, writing
from severstal_cli.steel.synth.rendering import render
from severstal_cli.steel.synth.series import TEST, TRAIN, SetPlan
from severstal_cli.steel.tables import mask_table

SMALL = (64, 200)


def _digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synth") / "set"
    write_synthetic_set(folder, seed=3, images=30, test_images=12, size=SMALL, rare_boost=0.7, threads=2)
    return folder


def test_same_seed_gives_the_same_files_whatever_the_threads(small_set, tmp_path):
    again = tmp_path / "again"
    write_synthetic_set(again, seed=3, images=30, test_images=12, size=SMALL, rare_boost=0.7, threads=1)
    assert _digests(again) == _digests(small_set)
    other = tmp_path / "other"
    write_synthetic_set(other, seed=4, images=30, test_images=12, size=SMALL, rare_boost=0.7)
    assert not set(_digests(other)) & {name for name in _digests(small_set) if name.endswith(".jpg")}


def test_an_image_depends_on_its_number_only(small_set, tmp_path):
    longer = tmp_path / "longer"
    write_synthetic_set(longer, seed=3, images=35, test_images=2, size=SMALL, rare_boost=0.7)
    images = {k: v for k, v in _digests(small_set).items() if k.startswith("train_images")}
    assert images.items() <= _digests(longer).items()
    rows = (small_set / "train.csv").read_text().splitlines()
    assert set(rows) <= set((longer / "train.csv").read_text().splitlines())


def test_the_set_is_complete_and_its_tables_match_the_images(small_set):
    plan = SetPlan(seed=3, size=SMALL, rare_boost=0.7)
    for part, count, folder, name in ((TRAIN, 30, "train_images", "train.csv"), (TEST, 12, "test_images", "test.csv")):
        table = mask_table.read_table(small_set / name, pixels=64 * 200)
        assert table.layout is mask_table.Layout.CURRENT
        paths = sorted((small_set / folder).iterdir())
        assert [path.name for path in paths] == sorted(series.image_name(plan, part, k) for k in range(count))
        shown = {}
        for number in range(count):
            image, labels = series.draw_image(plan, part, number)
            image_id = series.image_name(plan, part, number)
            shown |= {(image_id, channel): rle.to_text(runs) for channel, runs in series.to_runs(labels).items()}
            stored = cv2.imread(str(small_set / folder / image_id), cv2.IMREAD_UNCHANGED)
            assert stored.shape == SMALL  # one channel
            assert np.abs(stored.astype(int) - image).mean() < 5  # JPEG
        assert {key: rle.to_text(runs) for key, runs in table.masks.items()} == shown
    sample = (small_set / "sample_submission.csv").read_text().splitlines()
    assert sample[0] == "ImageId,EncodedPixels,ClassId"
    assert sample[1:] == [f"{path.name},1 12800,0" for path in paths]


def test_the_difficulty_holds_under_annotations(tmp_path, monkeypatch):
    (tmp_path / "given.csv").write_text("ImageId,ClassId,EncodedPixels\nb.jpg,1,5 3 70 10\n")
    drawn = []
    monkeypatch.setattr(
        writing, "render", lambda *args, **options: drawn.append(options["difficulty"]) or render(*args, **options)
    )
    given = {"annotations": tmp_path / "given.csv", "difficulty": 0.25}
    write_synthetic_set(tmp_path / "set", seed=0, images=None, test_images=0, size=SMALL, **given)
    assert drawn == [0.25]


def test_drawing_under_annotations_keeps_them(tmp_path):
    rows = ["b.jpg,1,5 3 70 10", "a.png,3,1 200 201 5", "b.jpg,4,1000 64 1064 64", "unlisted.jpg,2,1 1"]
    (tmp_path / "given.csv").write_text("\n".join(["ImageId,ClassId,EncodedPixels", *rows]) + "\n")
    (tmp_path / "list.csv").write_text("ImageId\nclean.jpg\nb.jpg\na.png\n")
    folder = tmp_path / "set"
    given = {"annotations": tmp_path / "given.csv", "image_list": tmp_path / "list.csv"}
    write_synthetic_set(folder, seed=0, images=None, test_images=2, size=SMALL, **given)
    written = (folder / "train.csv").read_text().splitlines()
    assert written == ["ImageId,ClassId,EncodedPixels", rows[1], rows[0], rows[2]]
    assert sorted(path.name for path in (folder / "train_images").iterdir()) == ["a.png", "b.jpg", "clean.jpg"]
    assert len(list((folder / "test_images").iterdir())) == 2
    # an image does not depend on the others of the set, and its mask is visible
    alone = tmp_path / "alone"
    write_synthetic_set(alone, seed=0, images=None, test_images=0, size=SMALL, annotations=tmp_path / "given.csv")
    assert _digests(alone)["train_images/b.jpg"] == _digests(folder)["train_images/b.jpg"]
    assert sorted(path.name for path in (alone / "train_images").iterdir()) == ["a.png", "b.jpg", "unlisted.jpg"]
    first = tmp_path / "first"
    write_synthetic_set(first, seed=0, images=2, test_images=0, size=SMALL, **given)
    assert sorted(path.name for path in (first / "train_images").iterdir()) == ["b.jpg", "clean.jpg"]


def test_test_names_avoid_those_of_given_images(tmp_path):
    taken = series.image_name(SetPlan(seed=0, size=SMALL), TEST, 0)
    (tmp_path / "given.csv").write_text(f"ImageId,ClassId,EncodedPixels\n{taken},1,1 40\n")
    folder = tmp_path / "set"
    write_synthetic_set(folder, seed=0, images=None, test_images=2, size=SMALL, annotations=tmp_path / "given.csv")
    test_names = {path.name for path in (folder / "test_images").iterdir()}
    assert len(test_names) == 2
    assert taken not in test_names


@pytest.mark.parametrize("name", ["../b.jpg", "b.txt", "b"])  # the first is refused by the reader of tables
def test_given_names_must_be_image_files(tmp_path, name):
    (tmp_path / "given.csv").write_text(f"ImageId,ClassId,EncodedPixels\n{name},1,1 1\n")
    with pytest.raises(InputError, match="not the name of"):
        write_synthetic_set(
            tmp_path / "set", seed=0, images=None, test_images=0, size=SMALL, annotations=tmp_path / "given.csv"
        )
    assert not (tmp_path / "set").exists()


def test_a_mask_past_the_end_of_the_image_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "given.csv").write_text("ImageId,ClassId,EncodedPixels\nb.jpg,1,12800 2\n")
    with pytest.raises(InputError, match="line 2"):
        write_synthetic_set(
            tmp_path / "set", seed=0, images=None, test_images=0, size=SMALL, annotations=tmp_path / "given.csv"
        )
    assert not (tmp_path / "set").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "train_images").mkdir()
    (tmp_path / "train_images" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="not a synthetic set"):
        write_synthetic_set(tmp_path, seed=0, images=1, test_images=0, size=SMALL)
    assert list(_digests(tmp_path)) == ["train_images/mine.jpg"]
    with pytest.raises(InputError, match="it is a file"):
        write_synthetic_set(tmp_path / "train_images" / "mine.jpg", seed=0, images=1, test_images=0, size=SMALL)


def test_an_earlier_set_is_replaced_whole(tmp_path):
    write_synthetic_set(tmp_path, seed=0, images=4, test_images=2, size=SMALL)
    write_synthetic_set(tmp_path, seed=1, images=3, test_images=1, size=SMALL)
    assert len(list((tmp_path / "train_images").iterdir())) == 3
    assert len(list((tmp_path / "test_images").iterdir())) == 1
    assert json.loads((tmp_path / "synthetic.json").read_text())["seed"] == 1


class _Interrupting(Progress):
    """Stops like Ctrl-C after a few images."""

    def bar(self, label, total, unit):
        from contextlib import nullcontext

        class Stop(Bar):
            left = 5

            def advance(self, steps=1, note=""):
                self.left -= steps
                if not self.left:
                    raise KeyboardInterrupt

        return nullcontext(Stop())


def test_an_interrupted_set_does_not_look_complete(tmp_path):
    write_synthetic_set(tmp_path, seed=0, images=3, test_images=1, size=SMALL)
    cv2.setNumThreads(2)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        write_synthetic_set(tmp_path, seed=1, images=200, test_images=2, size=SMALL, progress=_Interrupting())
    assert cv2.getNumThreads() == 2
    assert set(threading.enumerate()) <= before
    assert not (tmp_path / "train.csv").exists()
    assert len(list((tmp_path / "train_images").iterdir())) < 150
    assert not list(tmp_path.rglob("*.part"))
    write_synthetic_set(tmp_path, seed=1, images=2, test_images=1, size=SMALL)  # and it can be made anew
    assert len(list((tmp_path / "train_images").iterdir())) == 2


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path, monkeypatch):
    def mkdir(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OutputError, match="Permission denied"):
        write_synthetic_set(tmp_path / "set", seed=1, images=2, test_images=2, size=SMALL)


def test_a_full_disk_is_one_error_and_leaves_no_part(tmp_path, monkeypatch):
    def write_bytes(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OutputError, match="No space left"):
        write_synthetic_set(tmp_path, seed=1, images=20, test_images=2, size=SMALL)
    assert not list(tmp_path.rglob("*.jpg*"))
    assert not (tmp_path / "train.csv").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"size": (16, 200)}, "at least 32"),
        ({"size": (32, 65_501)}, "at most 65,500"),
        ({"images": -1}, "negative"),
        ({"images": None}, "number of images"),
        ({"defect_share": 1.5}, "defect_share"),
        ({"image_list": Path("list.csv")}, "no list"),
    ],
)
def test_wrong_arguments(tmp_path, wrong, message):
    arguments = {"seed": 0, "images": 1, "test_images": 0, "size": SMALL} | wrong
    with pytest.raises(ValueError, match=message):
        write_synthetic_set(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


def test_empty_parts_are_possible(tmp_path):
    write_synthetic_set(tmp_path, seed=0, images=2, test_images=0, size=(40, 33), defect_share=0)
    assert (tmp_path / "train.csv").read_text() == "ImageId,ClassId,EncodedPixels\n"
    assert (tmp_path / "test_images").is_dir()
    assert writing.MARKER in {path.name for path in tmp_path.iterdir()}


def test_only_what_the_earlier_set_names_is_removed(tmp_path, heard):
    write_synthetic_set(tmp_path, seed=0, images=2, test_images=1, size=SMALL)
    (tmp_path / "train_images" / "mine.jpg").write_bytes(b"x")
    (tmp_path / "test_images" / "notes.txt").write_bytes(b"y")
    write_synthetic_set(tmp_path, seed=1, images=2, test_images=1, size=SMALL, progress=heard)
    assert (tmp_path / "train_images" / "mine.jpg").read_bytes() == b"x"
    assert (tmp_path / "test_images" / "notes.txt").read_bytes() == b"y"
    assert len(list((tmp_path / "train_images").iterdir())) == 3
    assert [line.split(",")[0] for line in heard.lines] == [
        f"warning: 1 files in {tmp_path / part} are not of the earlier set: they stay"
        for part in ("train_images", "test_images")
    ]


def test_a_linked_folder_is_not_followed(tmp_path):
    folder = tmp_path / "set"
    write_synthetic_set(folder, seed=0, images=2, test_images=1, size=SMALL)
    (folder / "train_images").rename(tmp_path / "elsewhere")
    (folder / "train_images").symlink_to(tmp_path / "elsewhere")
    before = _digests(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"will not write to .*train_images: it is a link"):
        write_synthetic_set(folder, seed=0, images=2, test_images=1, size=SMALL)
    assert _digests(tmp_path / "elsewhere") == before
    assert (folder / "train.csv").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "without the names of the images"),
        ({"train_images": ["../outside.jpg"]}, "cannot be an image of a set"),
        ({"train_images": ["/outside.jpg"]}, "cannot be an image of a set"),
        ({"..": ["outside.jpg"]}, "cannot be an image of a set"),
        ({"train_images": ["notes.txt"]}, "cannot be an image of a set"),
        ({"train_images": "outside.jpg"}, "not a list"),
        ([], "not a table"),
    ],
)
def test_a_changed_list_removes_nothing(tmp_path, names, message):
    folder = tmp_path / "set"
    write_synthetic_set(folder, seed=0, images=1, test_images=0, size=SMALL)
    (tmp_path / "outside.jpg").write_bytes(b"x")
    about = json.loads((folder / writing.MARKER).read_text())
    (folder / writing.MARKER).write_text(json.dumps(about | {"names": names}))
    before = _digests(tmp_path)
    with pytest.raises(InputError, match=message):
        write_synthetic_set(folder, seed=0, images=1, test_images=0, size=SMALL)
    assert _digests(tmp_path) == before


def test_two_sets_in_one_folder_are_refused(tmp_path):
    class Second(Progress):
        """Writes another set while the first is written."""

        def bar(self, label, total, unit):
            with pytest.raises(MachineError, match=r"another process writes a synthetic set to .*set\. Wait for it"):
                write_synthetic_set(tmp_path / "set", seed=2, images=1, test_images=0, size=SMALL)
            return super().bar(label, total, unit)

    write_synthetic_set(tmp_path / "set", seed=1, images=1, test_images=0, size=SMALL, progress=Second())
    assert json.loads((tmp_path / "set" / writing.MARKER).read_text())["seed"] == 1
