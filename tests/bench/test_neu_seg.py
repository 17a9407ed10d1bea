"""The table of `bench/neu_seg.py`: which images it counts, how runs are named, and what stands beside what."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[2] / "bench" / "neu_seg.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    """`bench/` is no package."""
    spec = importlib.util.spec_from_file_location("neu_seg", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entry(name: str, score: float, by_them: float, epochs: tuple[int, ...] = (15,)) -> dict[str, Any]:
    def part(value: float) -> dict[str, Any]:
        return {"mean_dice": value, "interval": [value - 0.005, value + 0.005]}

    return {
        "name": name,
        "weights": "none",
        "epochs": list(epochs),
        "minutes": 51.6,
        "validation": 0.93,
        "all": part(score),
        "by_them": part(by_them),
    }


def test_the_first_of_each_four_sorted_names_counts(bench: Any) -> None:
    names = [f"{number:06}.jpg" for number in range(1, 841)]
    counted = bench.scored_by_them(reversed(names))
    assert counted[:3] == ["000001.jpg", "000005.jpg", "000009.jpg"]
    assert (len(counted), counted[-1]) == (210, "000837.jpg")


def test_a_run_is_named_by_all_that_distinguishes_it(bench: Any) -> None:
    lite0 = "tu-tf_efficientnet_lite0"
    assert bench.run_name("unet", lite0, "imagenet", 0, 2) == "unet-lite0-fold0-seed2"
    assert bench.run_name("unet", lite0, "none", "01234", 0) == "unet-lite0-scratch-fold01234-seed0"
    assert bench.run_name("unet", lite0, "imagenet", 0, 0, images=363) == "unet-lite0-363images-fold0-seed0"
    assert bench.run_name("linknet", "resnet34", "none", 1, 0, "warp") == "linknet-resnet34-scratch-warp-fold1-seed0"


def test_ours_stand_among_the_published_by_the_210(bench: Any) -> None:
    lines = list(bench.table([entry("a", 0.95, 0.9430), entry("b", 0.93, 0.9600, (15, 14)), entry("a", 0.95, 0.9440)]))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:] if line.startswith("|")]
    names = [row[0] for row in rows]
    assert names[:6] == ["**`b`**", "UperNet MiT-B4", "SegFormer-B0", "**`a`**", "FPN efficientnet-b5", "**`a`**"]
    assert names[-1] == "predicting nothing"
    assert len(rows) == 8 + 3 + 1, "each score ever made has a row"
    assert {len(row) for row in rows} == {len(bench.HEADER)}
    assert rows[0][1:] == ["none", "15+14", "52", "0.9300", "0.9300 (0.9250 to 0.9350)", "0.9600 (0.9550 to 0.9650)"]
    assert rows[1][1:] == ["ImageNet", "300", "", "", "", "0.9522"]
    assert "10.1007/s11042-023-15307-y" in lines[-1]


def test_fewer_training_images_are_a_part_of_more_and_validation_stays_whole(bench: Any) -> None:
    rows = [f"{number:04}.jpg,{number % 5},{number},1" for number in range(100)]
    fold = {row for row in rows if row.split(",")[1] == "2"}
    few, more = (set(bench.some_images(rows, 2, images)) for images in (10, 40))
    assert fold < few < more
    assert (len(few - fold), len(more - fold)) == (10, 40)
    for images in (0, 101 - len(fold)):
        with pytest.raises(SystemExit, match=f"fold 2 leaves {100 - len(fold)} images"):
            bench.some_images(rows, 2, images)


def test_the_log_keeps_every_entry(bench: Any, tmp_path: Path) -> None:
    work = bench.Work(tmp_path)
    assert work.entries(work.scores) == []
    for number in range(3):
        work.append(work.scores, {"number": number})
    assert work.entries(work.scores) == [{"number": number} for number in range(3)]


def test_a_file_is_made_again_where_its_source_is_newer(bench: Any, tmp_path: Path) -> None:
    work = bench.Work(tmp_path)
    (tmp_path / "source").touch()
    assert work.is_older("made", "source")
    (tmp_path / "made").touch()
    for moment, is_older in ((1, False), (3, True)):
        os.utime(tmp_path / "source", (moment, moment))
        os.utime(tmp_path / "made", (2, 2))
        assert work.is_older("made", "source") == is_older
