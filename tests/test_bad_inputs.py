"""Wrong input, whatever it is: one line that says what, found and remedy, the right exit code, and nothing lost."""

import builtins
import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from severstal_cli import progress
from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import loop
from severstal_cli.steel.dataset import splits
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle

HEADER = "ImageId,ClassId,EncodedPixels\n"
PAIRS = "ImageId_ClassId,EncodedPixels\n"
IMAGE = "data/train_images/000000001.png"
TRAIN = "train --data data --arch unet-small --epochs 1 --name new"
PREDICT = "predict data/train_images --model models/good --out old.csv"
SCORE = "score old.csv --truth data/train.csv"
PSEUDO = f"{TRAIN} --pseudo new.csv --pseudo-images more"
SCORES = "ImageId,ClassId,Score\n"
NOISE = np.random.default_rng(0).integers(0, 256, (64, 96)).astype(np.uint8)

Step = Callable[[], object]


Severstal = Callable[[str], Any]


@pytest.fixture
def work(trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: `data`, its run `models/good`, an earlier result `old.csv` with its `old.json`, `masks`."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SEVERSTAL_DEBUG", raising=False)
    place = tmp_path / "work"
    shutil.copytree(trained[0], place / "data")  # with its cache and its split
    shutil.copytree(trained[1], place / "models" / "good")
    monkeypatch.chdir(place)
    image_ids = sorted(path.name for path in Path("data/train_images").iterdir())
    rows = "".join(f"{image_id}_1,\n{image_id}_2,1 3\n" for image_id in image_ids)
    Path("old.csv").write_text(PAIRS + rows)
    Path("old.json").write_text('{"submission": "old.csv"}')
    picture("masks/000000001_2.png", NOISE // 128 * 255)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def severstal(severstal: Severstal, work: Path) -> Severstal:
    """In `work`."""
    return severstal


def snapshot(folder: Path) -> dict[str, str]:
    """Every folder and file with its content, but for image caches."""
    paths = [path for path in sorted(folder.rglob("*")) if ".severstal" not in path.parts]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in paths
    }


def parts_left() -> list[Path]:
    """Temporary files that should be gone."""
    return list(Path().rglob("*.part"))


# What makes an input wrong: each returns a step that is taken in the `work` folder.


def nothing() -> None:
    """All is as it should be; the command line alone is wrong."""


def write(name: str, content: str | bytes) -> Step:
    def step() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)

    return step


def annotate(*rows: str) -> Step:
    """These rows alone in train.csv."""
    return write("data/train.csv", HEADER + "".join(f"{row}\n" for row in rows))


def table(*rows: str, name: str = "new.csv") -> Step:
    return write(name, HEADER + "".join(f"{row}\n" for row in rows))


def cut(name: str, kept: float = 0.5) -> Step:
    """The file as a download that broke off leaves it."""
    return lambda: Path(name).write_bytes(Path(name).read_bytes()[: int(Path(name).stat().st_size * kept)])


def remove(name: str) -> Step:
    return lambda: shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()


def folder_at(name: str) -> Step:
    """An empty folder instead of whatever is there."""

    def step() -> None:
        if Path(name).exists():
            remove(name)()
        Path(name).mkdir(parents=True)

    return step


def picture(name: str, image: Any, suffix: str = "") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(cv2.imencode(suffix or Path(name).suffix, image)[1].tobytes())


def image(name: str, pixels: Any, suffix: str = "") -> Step:
    return lambda: picture(name, pixels, suffix)


def mask(name: str, pixels: Any, suffix: str = "") -> Step:
    """A folder `drawn` with this one mask."""
    return image(f"drawn/{name}", pixels, suffix)


def change(name: str, **values: object) -> Step:
    """Other values in a JSON file."""
    return lambda: Path(name).write_text(json.dumps(json.loads(Path(name).read_text()) | values))


def change_card(**values: object) -> Step:
    return change("models/good/model.json", **values)


def replace(name: str, old: str, new: str) -> Step:
    def step() -> None:
        text = Path(name).read_text()
        assert old in text
        Path(name).write_text(text.replace(old, new))

    return step


def keep_checkpoint(**values: object) -> Step:
    return lambda: torch.save(values, "models/good/training.ckpt")


def all_of(*steps: Step) -> Step:
    return lambda: [step() for step in steps]


def pseudo(*rows: str, score: float = 0.95) -> Step:
    """A submission `new.csv` for the images `b.png` and `c.png` in `more`, with the same score for every row."""
    scores = "".join(f"{name}.png,{class_id},{score}\n" for name in "bc" for class_id in (1, 2, 3))
    data_folder = image("more/b.png", NOISE), image("more/c.png", 255 - NOISE)
    return all_of(table(*rows), write("new.scores.csv", SCORES + scores), *data_folder)


def held_out() -> str:
    """An image of the holdout."""
    rows = (row.split(",") for row in Path("data/splits.csv").read_text().splitlines())
    return next(f"data/train_images/{row[0]}" for row in rows if row[1] == "holdout")


def jpeg(size: tuple[int, int] = (64, 96)) -> bytes:
    return bytes(cv2.imencode(".jpg", np.resize(NOISE, size))[1].tobytes())


BOX = np.zeros((20, 30), np.uint8)
BOX[5:12, 8:20] = 255
SMOOTH = cv2.GaussianBlur(BOX, (5, 5), 0)
COLOUR = np.dstack([BOX, BOX // 2, BOX])
BANDS = np.zeros((20, 30, 3), np.uint8)
BANDS[:, :10, 2] = BANDS[:, 10:20, 1] = 255
RULE = {"pixel_threshold": 128, "min_component_px": 1, "min_mask_px": 1, "min_image_score": 0}
ENSEMBLE = write(
    "both.json",
    json.dumps(
        {"format": 1, "exclusive": True, "tta": "none", "runs": ["models/good", "models/gone"], "rules": [RULE] * 2}
    ),
)
RESUME = "train --data data --arch unet-small --epochs 4 --name good --resume"
REMOVE = "Remove models/good or give another --name, and train again"
NO_COLUMNS = "A table has ImageId_ClassId,EncodedPixels or ImageId,ClassId,EncodedPixels"
PATHS = "Name another folder or change its permissions"

OPTION = re.compile(r"wrong [a-z -]+: |wrong name\. |unknown (architecture|encoder|test-time augmentation): ")
"""What is said of an option that cannot have its value, whatever the files: wrong usage, exit code 2."""

FINDINGS = "Rank,ImageId,ClassId,Kind,Score,X,Y,Width,Height,Pixels,PredictedClassId,OtherImageId,EncodedPixels"
ROW = "1,000000000.png,1,missed,0.9,0,0,1,1,1,,,1 1"
APPLY = "audit --data data --out fresh.csv --apply"


def decisions(*rows: str) -> Step:
    return write("new.csv", "".join(f"{row}\n" for row in (f"{FINDINGS},Decision", *rows)))


def no_holdout() -> None:
    """The split of `data` holds nothing out; the run is of that split."""
    path = Path("data/splits.csv")
    path.write_text(re.sub(",holdout,", ",0,", path.read_text()))
    fingerprint = splits.read_splits(path).fingerprint
    change_card(split_fingerprint=fingerprint)()


# what is wrong | what makes it so | command line | all that is said, where … is anything
TABLE: list[tuple[str, Step, str, str]] = [
    # the data folder
    ("no such folder", nothing, "split --data nowhere",
     "no such data folder: nowhere. Give the folder with train.csv and train_images/"),
    ("no such folder to train on", nothing, "train --data nowhere",
     "no such data folder: nowhere. Give the folder with train.csv and train_images/"),
    ("no folder of images", remove("data/train_images"), "split --data data",
     "data/train_images: no such file or folder. Check the path"),
    ("no images in it", folder_at("data/train_images"), "split --data data",
     "no images in data/train_images: it is empty. Name the folder with the images"),
    ("too few images", nothing, "split --data data --folds 60",
     "too few images for 61 subsets: 45 images in 45 groups that must stay together. Use fewer folds, …"),
    ("all of it held out", nothing, "split --data data --holdout 1",
     "wrong holdout: 1.0. It must be at least 0 and below 1"),
    ("a holdout that is no number", nothing, "split --data data --holdout nan",
     "wrong holdout: nan. It must be at least 0 and below 1"),
    ("one fold", nothing, "split --data data --folds 1", "wrong number of folds: 1. It must be 2 to 100"),
    # images
    ("a corrupt JPEG among good ones", write("data/train_images/5.jpg", jpeg()[:2] + b"rubbish" * 99 + b"\xff\xd9"),
     "split --data data", "data/train_images/5.jpg: not an image, damaged, or of an unsupported …"),
    ("a JPEG that was overwritten", write("data/train_images/5.jpg", b"rubbish" * 99), "split --data data",
     "data/train_images/5.jpg: not an image, damaged, or of an unsupported format. Replace it"),
    ("a truncated JPEG among good ones", write("data/train_images/5.jpg", jpeg()[:900]), "split --data data",
     "data/train_images/5.jpg: the image is cut short. Copy or download it again"),
    ("a truncated PNG", cut(IMAGE), TRAIN, f"{IMAGE}: the image is cut short. Copy or download it again"),
    ("a damaged PNG", lambda: Path(IMAGE).write_bytes(flipped(Path(IMAGE).read_bytes())), "split --data data",
     f"{IMAGE}: the image is damaged: wrong checksum of PNG chunk IDAT. Copy or download it again"),
    ("an empty image file", write(IMAGE, ""), "split --data data",
     f"{IMAGE}: the file is empty. Copy or download it again"),
    ("an image smaller than its mask", image(IMAGE, NOISE[:10, :10]), "split --data data",
     "data/train.csv, line …: 000000001.png, class …: run … past the end, pixel 100. Masks must …"),
    # annotations
    ("no annotations", remove("data/train.csv"), "split --data data", "data/train.csv: no such file"),
    ("annotations that are a folder", folder_at("data/train.csv"), "split --data data",
     "data/train.csv: it is a folder. Name a CSV file"),
    ("empty CSV", write("data/train.csv", ""), "split --data data",
     "data/train.csv: it is empty. A table begins with a header"),
    ("a header alone", annotate(), "split --data data",
     "data/train.csv has no mask: nothing to learn from. Give annotated images"),
    ("binary rubbish", write("data/train.csv", bytes(range(128, 256)) * 9), "split --data data",
     "data/train.csv, line 1: it is not UTF-8 text. Save the table as CSV in UTF-8"),
    ("zero bytes", write("data/train.csv", bytes(999)), "split --data data",
     "data/train.csv, line 1: it holds null bytes: it is no text, or UTF-16. Save the table as CSV in UTF-8"),
    ("wrong header", write("data/train.csv", "Image,Label\n1,2\n"), "split --data data",
     "data/train.csv, line 1: the header is Image,Label; missing: ImageId,ClassId,EncodedPixels; unknown: Image,Label. "
     + NO_COLUMNS),
    ("colons", write("data/train.csv", "ImageId:ClassId:EncodedPixels\n"), "split --data data",
     f"data/train.csv, line 1: the header is ImageId:ClassId:EncodedPixels; … {NO_COLUMNS}"),
    ("a missing image", annotate("000000001.png,1,1 3", "gone.png,1,1 3"), TRAIN,
     "data/train.csv, line 3: there is no image gone.png in train_images: 1 annotated image is missing. "
     "Add the images or remove their rows"),
    *((f"class {text}", annotate(f"000000001.png,{text},1 3"), "split --data data",
       f"data/train.csv, line 2: ClassId {said}")
      for text, said in (
          ("0", "0 is below 1 (where ids count from 0, add 1 to each; in a sample file it is a placeholder)"),
          ("-1", "'-1' is not a whole number from 1"), ("x", "'x' is not a whole number from 1"),
          ("1.5", "'1.5' is not a whole number from 1"), ("", "'' is not a whole number from 1"),
          ("9" * 30, f"'{'9' * 30}' is above 254"))),
    *((f"the mask {text}", annotate("000000002.png,1,1 3", f"000000001.png,1,{text}"), "split --data data",
       f"data/train.csv, line 3: 000000001.png, class 1: {said}")
      for text, said in (
          ("4", "run 1 (number 1): start 4 has no length, the count of numbers is odd"),
          ("0 3", "run 1 (number 1): start 0 is below 1"), ("4 0", "run 1 (number 2): length 0 is below 1"),
          ("4 x", "run 1 (number 2): 'x' is not a number in plain digits"),
          ("9 2 1 2", "run 2 (number 3): start 1 is before the start of the run before it, 9: unsorted"),
          ("1 5 3 2", "run 2 (number 3): start 3 overlaps the run before it, 1 5"),
          ("9" * 40 + " 1", "run 1 (number 1): start 99999999999999999999... reaches past the end, pixel 2147483647"))),
    ("a mask past the end of its image", annotate("000000001.png,1,6144 2"), "split --data data",
     "data/train.csv, line 2: 000000001.png, class 1: run 1 (number 2): … past the end, pixel 6144. Masks must …"),
    ("a row cut short", annotate("000000001.png,1"), "split --data data",
     "data/train.csv, line 2: 2 fields where the header has 3"),
    ("an open quote", annotate('"000000001.png,1,1 3'), "split --data data",
     "data/train.csv, line 2: not a row of a CSV file: unexpected end of data"),
    ("an image outside of the folder", annotate("../1.png,1,1 3"), "split --data data",
     "data/train.csv, line 2: ImageId '../1.png' is a path, not the name of a file"),
    # the split
    ("a split of another data set", write("data/splits.csv", "ImageId,Part,Group,Classes\na.png,0,0,\n"), TRAIN,
     "data/splits.csv: 000000000.png and 44 others are in train_images but not in the split. Run `severstal split` …"),
    ("an image more than the split has", image("data/train_images/more.png", NOISE), TRAIN,
     "data/splits.csv: more.png is in train_images but not in the split. Run `severstal split` again"),
    ("a split that is none", write("data/splits.csv", "rubbish"), TRAIN,
     "data/splits.csv: the header is rubbish, not ImageId,Part,Group,Classes. Run `severstal split` again"),
    ("a split that is a folder", folder_at("data/splits.csv"), TRAIN,
     "data/splits.csv: it is a folder. Name a CSV file"),
    ("a split cut short", cut("data/splits.csv"), TRAIN, "data/splits.csv…. Run `severstal split` again"),
    ("an image twice in the split", replace("data/splits.csv", "000000001.png", "000000002.png"), TRAIN,
     "data/splits.csv, line 4: 000000002.png occurs a second time. Run `severstal split` again"),
    ("a fold that the split has not", nothing, f"{TRAIN} --fold 9",
     "no such fold: 9. The split has folds 0, 1, 2, 3, 4; or --fold none"),
    # what to train
    ("an unknown network", remove("data/splits.csv"), "train --data data --arch unett",
     "unknown architecture: unett. Choose one of deeplabv3plus, fpn, linknet, linknet-small, linknet-wide, segformer, "
     "unet, unet-small, unetplusplus, upernet"),
    ("an unknown encoder", nothing, "train --data data --encoder resnet --encoder-weights none",
     "unknown encoder: resnet. Did you mean resnet50?"),
    ("an unknown model of timm", nothing, "train --data data --encoder tu-nothing --encoder-weights none",
     "unknown encoder: tu-nothing. After tu- give the name of a timm model"),
    ("an encoder that does not fit", nothing,
     "train --data data --arch linknet --encoder mit_b0 --encoder-weights none",
     "linknet cannot use encoder mit_b0: … Choose another --encoder"),
    ("no such file of weights", nothing, "train --data data --encoder resnet18 --encoder-weights gone.pt",
     "no such file of encoder weights: gone.pt. Give a file, or imagenet, ssl, swsl, or none"),
    ("weights that are none", nothing, "train --data data --encoder resnet18 --encoder-weights data/train.csv",
     "cannot read data/train.csv as weights: … Give a state dict"),
    ("weights of something else", lambda: torch.save({"layer": torch.zeros(1)}, "other.pt"),
     "train --data data --encoder resnet18 --encoder-weights other.pt",
     "other.pt does not fit resnet18: it has layer, the encoder conv1.weight, … Give the weights of the encoder …"),
    ("a name that is a path", nothing, "train --data data --arch unet-small --epochs 1 --name ../new",
     "wrong name: ../new. It must be the name of a folder, no path"),
    ("a name of nothing", nothing, "train --data data --arch unet-small --epochs 1 --name=",
     "wrong name. It must be the name of a folder, no path"),
    ("no time", nothing, f"{TRAIN} --time-limit 0s", "wrong time limit: 0.0. It must be above 0 s"),
    ("a learning rate of 0", nothing, f"{TRAIN} --learning-rate 0", "wrong learning rate: 0.0. It must be above 0"),
    ("a learning rate that is no number", nothing, f"{TRAIN} --learning-rate nan",
     "wrong learning rate: nan. It must be above 0"),
    ("runs below a file", nothing, f"{TRAIN} --models old.csv",
     "cannot write old.csv/new/training.ckpt: old.csv is a file. Name another folder"),
    # pseudo labels
    ("pseudo labels without images", nothing, f"{TRAIN} --pseudo new.csv",
     "wrong pseudo-labels: new.csv. It must be a submission together with the folder of its images"),
    ("images without pseudo labels", nothing, f"{TRAIN} --pseudo-images more",
     "wrong pseudo-labels: more. It must be a submission together with the folder of its images"),
    ("no pseudo labels", nothing, PSEUDO, "new.csv: no such file"),
    ("pseudo labels without scores", all_of(pseudo(), remove("new.scores.csv")), PSEUDO,
     "new.scores.csv is missing: it holds the confidence of the rows of the submission. Predict again: …"),
    ("scores of another submission", all_of(pseudo("b.png,2,1 3"), write("new.scores.csv", SCORES + "b.png,1,1\n")),
     PSEUDO, "the scores beside new.csv lack rows: 1, first b.png, class 2. Predict again, with a run of all 2 …"),
    ("pseudo labels for annotated images", pseudo("000000001.png,1,", "000000000.png,1,"), PSEUDO,
     "new.csv names annotated images of data: 2, first 000000001.png. Give pseudo-labels …"),
    ("pseudo labels of more classes", pseudo("b.png,3,1 3"), PSEUDO,
     "new.csv has classes 1 to 3: data has 2. Give a submission of a run that was trained on the same classes"),
    ("no pseudo images", all_of(pseudo("b.png,1,"), remove("more")), PSEUDO,
     "no such folder: more. Give the images of new.csv"),
    ("pseudo images that are missing", pseudo("b.png,1,", "gone.png,1,", "gone.png,2,", "lost.png,1,"), PSEUDO,
     "new.csv, line 3: there is no image gone.png in more: 2 annotated images are missing. Add the images or …"),
    ("pseudo labels past the end of their image", pseudo("b.png,1,6144 2"), PSEUDO,
     "new.csv, line 2: b.png, class 1: run 1 (number 2): … past the end, pixel 6144. Masks …"),
    ("pseudo labels that are not sure", pseudo("b.png,1,", "c.png,2,1 3", score=0.8123), PSEUDO,
     "no image of new.csv has a confidence of at least 0.9: the highest is 0.8123. Give …"),
    ("pseudo labels of the holdout", all_of(pseudo("b.png,1,"), lambda: shutil.copy(held_out(), "more/b.png")), PSEUDO,
     "no image of new.csv is left to train on: 1 are confident, all near-duplicates of validation or …"),
    # going on
    ("nothing to resume", nothing, f"{TRAIN} --resume",
     "nothing to resume: models/new/training.ckpt does not exist. Train without --resume"),
    ("a run of this name", nothing, RESUME.removesuffix(" --resume"),
     "a run of this name exists: models/good. Give --resume, another --name, or remove it"),
    ("a run of this name, to predict with only", remove("models/good/training.ckpt"), RESUME.removesuffix(" --resume"),
     "a run of this name exists: models/good. Give another --name, or remove it"),
    ("other settings", nothing, f"{RESUME} --batch-size 3",
     "models/good was trained with another effective batch size: 8, here 3. Resume with the same, or train …"),
    ("another network", nothing, RESUME.replace("unet", "linknet"),
     "models/good was trained with another arch: unet-small, here linknet-small. Resume with the same, or train …"),
    ("other data", annotate("000000001.png,2,1 3"), RESUME, "models/good was trained with another data: … --name"),
    ("a checkpoint cut short", cut("models/good/training.ckpt"), RESUME,
     f"models/good/training.ckpt is damaged: … {REMOVE}"),
    ("a checkpoint of another version", keep_checkpoint(format=7), RESUME,
     f"models/good/training.ckpt is of another version: format 7, this program reads 1. {REMOVE}"),
    ("a checkpoint of something else", lambda: torch.save([1], "models/good/training.ckpt"), RESUME,
     f"models/good/training.ckpt is damaged: it holds no table of values. {REMOVE}"),
    ("a checkpoint without a card", keep_checkpoint(format=1), RESUME,
     "models/good/training.ckpt is damaged: card is missing. Remove models/good, and train again"),
    # the run
    ("no such run", nothing, "thresholds models/gone", "no such run: models/gone. `severstal models` lists the …"),
    ("a folder that is no run", nothing, "thresholds data",
     "data/model.json is missing. The training has not finished its first epoch, or this is no run"),
    ("no run at all", remove("models/good"), "predict data/train_images --out old.csv",
     "no trained run in models. Train one: severstal train --arch unet --data DATA"),
    ("a run of another version", change_card(format=2), PREDICT,
     "models/good/model.json is of another version: format 2, this program reads 1. Train again, or use the version …"),
    ("a model.json cut short", cut("models/good/model.json"), PREDICT,
     "models/good/model.json is damaged: … Train again, or restore the file"),
    ("a model.json with more in it", change_card(more=1), PREDICT,
     "models/good/model.json is damaged: missing or unknown: more. Train again, or restore the file"),
    ("a mean that is no number", change_card(mean="x", fold="y"), PREDICT,
     "models/good/model.json is damaged: mean is 'x', not a number. Train again, or restore the file"),
    ("a size that is none", change_card(image_size=5), "score --model models/good",
     "models/good/model.json is damaged: image_size is 5, not a list. Train again, or restore the file"),
    ("a run of an unknown network", change_card(arch="later"), PREDICT,
     "models/good/model.json names a network that this program does not have: later. Use the version of …"),
    ("weights of another network", change_card(arch="linknet-small"), PREDICT,
     "models/good/model.safetensors is damaged or does not fit model.json: … Train again"),
    ("weights cut short", cut("models/good/model.safetensors"), PREDICT,
     "models/good/model.safetensors is damaged or does not fit model.json: … Train again"),
    ("weights missing", remove("models/good/model.safetensors"), PREDICT,
     "models/good/model.safetensors is missing. Train again, or restore the file"),
    ("thresholds missing", remove("models/good/thresholds.json"), PREDICT,
     "models/good/thresholds.json is missing. Search them: severstal thresholds models/good"),
    ("thresholds missing, and none to search", all_of(change_card(fold=None), remove("models/good/thresholds.json")),
     "score --model models/good", "models/good/thresholds.json is missing. models/good was trained on all folds, so …"),
    ("thresholds cut short", cut("models/good/thresholds.json"), PREDICT,
     "models/good/thresholds.json is damaged: … Search the thresholds again"),
    ("thresholds out of range", change("models/good/thresholds.json", rules=[RULE | {"pixel_threshold": 999}] * 2),
     PREDICT,
     "models/good/thresholds.json is damaged: pixel_threshold must be a whole number from 1 to 256, not 999. Search …"),
    ("thresholds of more classes", change("models/good/thresholds.json", rules=[RULE] * 3), PREDICT,
     "models/good/thresholds.json does not fit the run: 3 classes, the run has 2. Search again"),
    ("thresholds of another version", change("models/good/thresholds.json", format=7), PREDICT,
     "models/good/thresholds.json is of another version: format 7, this program reads 1. Search the thresholds again"),
    ("no such thresholds", nothing, f"{PREDICT} --thresholds gone.json", "gone.json is missing. Check the path"),
    ("thresholds of runs that are gone", ENSEMBLE, "predict data/train_images --thresholds both.json --out old.csv",
     "both.json was searched for runs that do not exist: models/gone. Name them with --model"),
    ("an ensemble to score that is gone", ENSEMBLE, "score --thresholds both.json",
     "both.json was searched for runs that do not exist: models/gone. Name them with --model"),
    ("weights of other runs in thresholds", change("models/good/thresholds.json", weights=[1, 2]), PREDICT,
     "models/good/thresholds.json is damaged: weights [1.0, 2.0] of 1 runs. Search the thresholds again"),
    # thresholds
    ("data that changed since", annotate("000000001.png,2,1 3"), "thresholds models/good --data data",
     "models/good was trained with another data than that of data: … Restore it, or train again"),
    ("a split that changed since", replace("data/splits.csv", "holdout", "5"), "score --model models/good --data data",
     "models/good was trained with another split than that of data: … Restore it, or train again"),
    ("data that moved", change_card(data="/nowhere/data"), "score --model models/good",
     "no such data folder: /nowhere/data. Give the folder with train.csv and train_images/"),
    ("a run without a fold", change_card(fold=None), "thresholds models/good",
     "models/good was trained on every image: none is left to search thresholds on. Take the thresholds of a run …"),
    ("several runs and no place", nothing, "thresholds models/good models/good",
     "several runs: their thresholds belong to no single run. Give --out FILE.json"),
    ("weights of another number of runs", nothing, "thresholds models/good --weights 1,2",
     "wrong weights: 1, 2. Give 1, one per run, none below 0 and not all 0"),
    ("thresholds named as their picture", nothing, "thresholds models/good --out t.png",
     "wrong name for thresholds: t.png. A plot with this name is written beside them"),
    ("a folder for thresholds", nothing, "thresholds models/good --out data",
     "cannot write data: it is a folder. Name a file"),
    ("unknown views", nothing, "thresholds models/good --tta all",
     "unknown test-time augmentation: all. Choose of none, flips, scales, hflip, vflip, both, smaller, larger"),
    # predict
    ("no such images", nothing, "predict gone --model models/good", "gone: no such file or folder. Check the path"),
    ("a folder without images", nothing, "predict data --model models/good",
     "no images in data: 1 folder, first train_images; 2 files that are not images, first splits.csv. Name …"),
    ("a file that is no image", nothing, "predict data/train.csv --model models/good --out old.csv",
     "data/train.csv: not an image, damaged, or of an unsupported format. Replace it"),
    ("a truncated JPEG to predict", write("data/train_images/00000000f.jpg", jpeg()[:900]), PREDICT,
     "data/train_images/00000000f.jpg: the image is cut short. Copy or download it again"),
    ("a corrupt image to predict", write(IMAGE, b"rubbish" * 99), PREDICT,
     f"{IMAGE}: not an image, damaged, or of an unsupported format. Replace it"),
    ("the same name in two folders", image("more/000000001.png", NOISE), PREDICT + " more",
     f"two images are named 000000001.png: {IMAGE} and more/000000001.png. Rename one of them"),
    ("unknown views to predict", nothing, f"{PREDICT} --tta all",
     "unknown test-time augmentation: all. Choose of none, flips, scales, hflip, vflip, both, smaller, larger"),
    ("an unknown layout", nothing, f"{PREDICT} --layout wide",
     "wrong layout: wide. It must be auto, current or original"),
    ("a submission that would be packed", nothing, "predict data/train_images --model models/good --out new.csv.zip",
     "wrong name for a table: new.csv.zip. It must be that of a plain CSV file: pack it later"),
    ("runs of different classes",
     all_of(lambda: shutil.copytree("models/good", "models/three"), change("models/three/model.json", classes=3)),
     f"{PREDICT} --model models/three",
     "runs of different classes cannot be averaged: models/good has 2, models/three has 3"),
    ("no sample", nothing, f"{PREDICT} --sample gone.csv", "gone.csv: no such file"),
    ("a sample of other images", write("sample.csv", "ImageId,EncodedPixels,ClassId\ngone.png,1 1,0\n"),
     f"{PREDICT} --sample sample.csv",
     "images that the sample asks for are missing: 1, first gone.png. Give the folder that the sample belongs to"),
    ("a sample of fewer classes", write("sample.csv", f"{PAIRS}000000001.png_1,\n"), f"{PREDICT} --sample sample.csv",
     "sample.csv asks for classes 1 to 1: the runs predict 2. Use a run with as many classes, or …"),
    ("a sample of no images", table(name="sample.csv"), f"{PREDICT} --sample sample.csv",
     "sample.csv: it names no image"),
    ("a result that is a folder", nothing, PREDICT.replace("old.csv", "data"),
     "cannot write data: it is a folder. Name a file"),
    ("a result below a file", nothing, PREDICT.replace("old.csv", "old.csv/new.csv"),
     "cannot write old.csv/new.csv: old.csv is a file. Name another folder"),
    ("a result named as its own story", nothing, PREDICT.replace("old.csv", "old.json"),
     "wrong name for a submission: old.json. A JSON of that name is written beside it"),
    ("a folder where its story should be", folder_at("old.json"), PREDICT,
     "cannot write old.json: it is a folder. Name a file"),
    ("a folder where its scores should be", folder_at("old.scores.csv"), PREDICT,
     "cannot write old.scores.csv: it is a folder. Name a file"),
    ("a submission named as the folder of its parts", nothing, f"{PREDICT.replace('old.csv', 'old.parts')}",
     "wrong name for a submission: old.parts. A folder of that name is made for its parts"),
    ("pictures below a file", nothing, f"{PREDICT} --masks old.csv",
     "cannot write old.csv/000000000.png: old.csv is a file. Name another folder"),
    ("overlays over the images", nothing, f"{PREDICT} --masks data/train_images",
     "data/train_images holds the images: the overlays would be taken for images next time. Name another folder …"),
    # score
    ("no truth", nothing, "score old.csv",
     "unclear what to score. Give a submission and --truth train.csv, or only a run"),
    ("a submission and a run", nothing, f"{SCORE} --model models/good",
     "unclear what to score. Give a submission and --truth train.csv, or only a run"),
    ("no such submission", nothing, "score gone.csv --truth data/train.csv",
     "gone.csv: no such file. Give a submission.csv"),
    ("no such truth", nothing, "score old.csv --truth gone.csv",
     "gone.csv: no such file. Give the annotations, as train.csv"),
    ("no such submission to compare with", nothing, f"{SCORE} --against gone.csv",
     "gone.csv: no such file. Give a submission.csv"),
    ("a submission against a run", nothing, f"{SCORE} --against models/good",
     "models/good: it is a folder, not a table. Give a submission.csv; runs are compared with runs only"),
    ("a run against a submission", nothing, "score --model models/good --against old.csv",
     "a run cannot be compared with a submission: old.csv is one. Predict the same images with the run, and compare …"),
    ("a class that the truth does not have", write("new.csv", f"{HEADER}000000001.png,2,1 3\n000000001.png,9,5 3\n"),
     "score new.csv --truth data/train.csv",
     "new.csv, line 3: it names class 9: data/train.csv has 2. Remove it, or add a row of that class to the …"),
    ("a truth without rows", table(), "score old.csv --truth new.csv",
     "old.csv, line 2: it names class 1: new.csv has 0. Remove it, …"),
    ("views of a submission", nothing, f"{SCORE} --tta flips",
     "--tta does nothing for a submission: flips. Omit it"),
    ("other data of a submission", nothing, f"{SCORE} --data data",
     "--data does nothing for a submission: data. Omit it"),
    ("two submissions with rows for defects only",
     all_of(table("000000001.png,1,1 3"), table("000000002.png,1,1 3", name="more.csv")),
     "score new.csv --truth data/train.csv --against more.csv",
     "unclear which images to score: new.csv has rows for defects only. Give --images DIR or LIST.csv"),
    ("no such list of images", nothing, f"{SCORE} --images gone.csv",
     "gone.csv: no such file or folder. Give --images DIR or LIST.csv"),
    ("no images that count", folder_at("none"), f"{SCORE} --images none", "no images in none: …"),
    ("a list of images without a column", write("list.csv", "Name\n1.png\n"), f"{SCORE} --images list.csv",
     "list.csv, line 1: the header is Name. A list of images has a column ImageId or ImageId_ClassId"),
    ("an unreadable list of images", write("list.csv", b"\xff\xfe\xfa"), f"{SCORE} --images list.csv",
     "list.csv, line 1: it is not UTF-8 text but UTF-16, as Excel's Unicode text. Save the table as CSV in UTF-8"),
    ("a submission for other images", write("list.csv", "ImageId\nelse.png\n"), f"{SCORE} --images list.csv",
     "old.csv names none of the images that count: it names 000000000.png, expected else.png. Check that …"),
    ("a submission without rows", table(), "score new.csv --truth data/train.csv",
     "no images to score: new.csv. Give --images DIR or LIST.csv"),
    ("two tables without rows", table(), "score new.csv --truth new.csv --images data/train_images",
     "no classes to score: new.csv and new.csv have no rows. Give other files"),
    ("a run that was trained without a holdout", nothing, "score --model models/gone --json",
     "no such run: models/gone. `severstal models` lists the trained runs"),
    # compare
    ("a run and a submission", nothing, "compare models/good old.csv",
     "submissions are compared with submissions only: old.csv is one, models/good is not. Predict the same images …"),
    ("submissions without truth", table(), "compare old.csv new.csv",
     "submissions need ground truth. Give --truth train.csv, and --images DIR"),
    ("training of submissions", table(), "compare old.csv new.csv --truth data/train.csv --seeds 0,1 --epochs 1",
     "--epochs and --seeds do nothing for submissions: old.csv new.csv. Omit them"),
    ("training of runs", lambda: shutil.copytree("models/good", "models/other"),
     "compare models/good models/other --learning-rate 0.01",
     "--learning-rate does nothing for trained runs: models/good models/other. Omit it"),
    ("other data than that of the runs",
     all_of(lambda: shutil.copytree("models/good", "models/other"), lambda: shutil.copytree("data", "more"),
            replace("more/train.csv", "000000001.png,2,", "000000002.png,2,")),
     "compare models/good models/other --data more",
     "models/good was trained with another data than that of more: … Restore it, or train again"),
    ("a mask past the end of its image", table("000000001.png,2,6144 2"),
     "compare old.csv new.csv --truth data/train.csv --images data/train_images",
     "new.csv, line 2: 000000001.png, class …: run 1 (number 2): … past the end, pixel 6144. Masks must be drawn …"),
    ("a comparison among the images", table(),
     "compare old.csv new.csv --truth data/train.csv --images data/train_images --out data/train_images",
     "data/train_images holds the images: 000000000.png is one. The plot would be taken for an image: name another …"),
    ("a comparison among the annotated images", table(),
     "compare old.csv new.csv --truth data/train.csv --images data/splits.csv --out data/train_images",
     "data/train_images holds the images: 000000000.png is one. The plot would be taken for an image: name another …"),
    ("a candidate twice", nothing, "compare old.csv old.csv --truth data/train.csv",
     "wrong list of candidates: old.csv old.csv. It must be without duplicates"),
    ("a seed twice", nothing, "compare unet linknet --seeds 1,1",
     "wrong list of seeds: 1,1. It must be without duplicates"),
    # report
    ("nothing to show", nothing, "report gone.csv",
     "gone.csv: no such file or folder. Name the folder of a run, or a submission"),
    ("a run twice in a report", nothing, "report models/good models/good",
     "wrong runs and submissions: models/good models/good. It must be named once each"),
    ("a part that a report has not", nothing, "report models/good --part test",
     "wrong part: test. It must be holdout or validation"),
    ("a run and the truth of others", nothing, "report models/good --truth data/train.csv",
     "not clear which images to show: a run shows images of its own data. Leave out --truth and --images, or name …"),
    ("a submission of unknown images", nothing, "report old.csv",
     "the images of old.csv are unknown. Give --images DIR"),
    ("a submission of images elsewhere", write("new.csv", f"{PAIRS}gone.png_1,\n"), "report new.csv --data data",
     "the images of new.csv are unknown: not all of 1 are in data/train_images or data/test_images. Give …"),
    ("no rows to show", table(), "report new.csv --data data", "no images to show: new.csv has no rows. Give …"),
    ("no classes to show", table(), "report new.csv --images data/train_images",
     "no classes to show: no table has rows. Give other files"),
    ("a mask past the end of what is shown", table("000000001.png,1,6144 2"),
     "report new.csv --images data/train_images",
     "new.csv, line 2: 000000001.png, class …: run 1 (number 2): … past the end, pixel 6144. Masks must be drawn …"),
    ("runs of other folds in a report",
     all_of(lambda: shutil.copytree("models/good", "models/other"), change("models/other/model.json", fold=1)),
     "report models/good models/other --part validation",
     "models/other left out other images than models/good. Show runs of one fold of one split"),
    ("a submission of more classes beside a run", table("000000001.png,3,1 3"), "report models/good new.csv",
     "new.csv has classes 1 to 3: models/good has 2. Show a submission for the same classes"),
    ("a submission of other images beside a run", table("gone.png,1,1 3"), "report models/good new.csv",
     "new.csv has no row for the … images to show. Give the submission for these images"),
    ("a mask past the end beside a run",
     all_of(lambda: Path("new.csv").write_text(f"{HEADER}{Path(held_out()).name},1,6144 2\n")),
     "report models/good new.csv",
     "new.csv, line 2: … reaches past the end, … Masks must be drawn on images of this size"),
    ("an ensemble to show", ENSEMBLE, "report both.json",
     "both.json is not a submission. Predict with --thresholds, and show the submission"),
    ("a folder to show that is no run", nothing, "report data",
     "data is not a run: it has no model.json. Name the folder of a run, or a submission"),
    ("an image too wide to show", all_of(image("wide/a.png", np.zeros((2, 65501), np.uint8)), table("a.png,1,1 1")),
     "report new.csv --images wide",
     "a.png is too large to show: 2 x 65501 pixels. A side may have 65,500"),
    ("a report of a run without thresholds", remove("models/good/thresholds.json"), "report models/good",
     "models/good/thresholds.json is missing. Search them: severstal thresholds models/good"),
    ("a history that is damaged", write("models/good/history.csv", "epoch,loss\n1,x\n"), "report models/good",
     "models/good/history.csv is damaged: … Restore it, or remove it"),
    ("a corrupt image in a report", write(IMAGE, b"rubbish" * 99), "report old.csv --images data/train_images",
     f"{IMAGE}: not an image, damaged, or of an unsupported format. Replace it"),
    ("a report over other files", nothing, "report models/good --out data",
     "data exists and is not a report. Name another folder with --out"),
    ("a report over a file", nothing, "report models/good --out old.csv",
     "old.csv exists and is not a report. Name another folder with --out"),
    ("a report below a file", nothing, "report models/good --out old.csv/new",
     "cannot write old.csv/new: old.csv is a file. Name another folder"),
    # check
    ("nothing to check", nothing, "check gone.csv", "gone.csv: no such file"),
    ("a folder to check", nothing, "check data", "data: it is a folder. Name a CSV file"),
    ("rubbish to check", write("new.csv", b"\xff\xfe\xfa"), "check new.csv",
     "new.csv, line 1: it is not UTF-8 text but UTF-16, as Excel's Unicode text. Save the table as CSV in UTF-8"),
    ("a wrong sample to check with", nothing, "check old.csv --sample gone.csv", "gone.csv: no such file"),
    # encode
    ("no masks", nothing, "encode gone --out fresh.csv", "gone: no such file or folder. Check the path"),
    ("masks with wrong names", mask("scratch.png", BOX), "encode drawn --out fresh.csv",
     "drawn/scratch.png: its name is not IMAGE_CLASS.png: ClassId 'scratch' is not a whole number from 1. For masks …"),
    ("a mask of class 0", mask("a_0.png", BOX), "encode drawn --out fresh.csv",
     "drawn/a_0.png: its name is not IMAGE_CLASS.png: ClassId 0 is below 1 …"),
    ("a mask of no image", mask("_1.png", BOX), "encode drawn --out fresh.csv",
     "drawn/_1.png: its name is not IMAGE_CLASS.png: ImageId is empty. For …"),
    ("an anti-aliased mask", mask("a_1.png", SMOOTH), "encode drawn --out fresh.csv",
     "drawn/a_1.png: … values besides 0 in a mask of one class: … and more. Save it without smoothing"),
    ("a mask on grey", mask("a_1.png", np.maximum(BOX, 128)), "encode drawn --out fresh.csv",
     "drawn/a_1.png: the values 128 and 255 in a mask of one class, and no 0. Name the background, e.g. --colours "
     "808080=0"),
    ("a mask as JPEG", mask("a_1.jpg", BOX), "encode drawn --out fresh.csv",
     "drawn/a_1.jpg: a JPG file: its compression changes pixels. Save masks as PNG"),
    ("a mask in colour", mask("a_1.png", COLOUR), "encode drawn --out fresh.csv",
     "drawn/a_1.png: a colour in a mask of one class: 000000 516 px, ff7fff 84 px. Name the background, e.g. …"),
    ("a mask cut short", all_of(mask("a_1.png", BOX), cut("drawn/a_1.png")), "encode drawn --out fresh.csv",
     "drawn/a_1.png: the image is cut short. Copy or download it again"),
    ("a mask of another size than its image", mask("000000001_1.png", BOX),
     "encode drawn --out fresh.csv --images data/train_images",
     f"drawn/000000001_1.png: 20x30 pixels, {IMAGE} has 64x96. A mask has the height and width of its image"),
    ("masks of two sizes", all_of(mask("a_1.png", BOX), mask("a_2.png", BOX[:9])), "encode drawn --out fresh.csv",
     "drawn/a_2.png: 9x30 pixels, another mask of the image has 20x30. A mask has the height and width of its image"),
    ("a mask of an image that is not there", mask("gone_1.png", BOX),
     "encode drawn --out fresh.csv --images data/train_images",
     "drawn/gone_1.png: no image gone in data/train_images. Name a mask after its image"),
    ("a mask of a class too many", mask("a_3.png", BOX), "encode drawn --out fresh.csv --classes 2",
     "drawn: a mask of class 3. The classes are 1 to 2"),
    ("a mask as a label image", mask("a.png", BOX), "encode drawn --out fresh.csv --label-images",
     "drawn/a.png: a label image with the values 0 and 255 only. For masks of one class use --class N …"),
    ("a label image in colours", mask("a.png", BANDS), "encode drawn --out fresh.csv --label-images",
     "drawn/a.png: 2 colours without a class: 000000 200 px, 00ff00 200 px, ff0000 200 px. Give the class of …"),
    ("colours that are none", nothing, "encode masks --out fresh.csv --colours red=1",
     "wrong colours: 'red=1'. Give RRGGBB=CLASS, as ff0000=1,00ff00=2; 0 is the background"),
    ("a suffix that is none", nothing, "encode masks --out fresh.csv --suffix *.png",
     "wrong suffix: .*.png. It must be a dot and the file extension of the images, as .png"),
    ("a class and label images", nothing, "encode masks --out fresh.csv --class 1 --label-images",
     "wrong class: 1. It must be left out with --label-images"),
    ("numbers of images", all_of(mask("In_8.png", BOX), mask("Pa_3.png", BOX), mask("Sc_7.png", BOX)),
     "encode drawn --out fresh.csv", "In_8.png -> image In.jpg, class 8: 3 files with the numbers 3, 7, 8 look like …"),
    ("a folder of folders", folder_at("drawn/SegmentationClass"), "encode drawn --out fresh.csv",
     "no masks in drawn: it holds SegmentationClass/. Name the folder with the mask files: PNG, BMP, TIFF, GIF or …"),
    ("a table that is there", nothing, "encode masks --out old.csv",
     "old.csv exists already. Give another file, or replace it by --overwrite"),
    ("a table over a mask", nothing, "encode masks --out masks/000000001_2.png --overwrite",
     "wrong name for a table: masks/000000001_2.png. It must be that of a CSV file"),
    ("a table over its annotations", write("coco.json", '{"images": [], "annotations": [], "categories": []}'),
     "encode coco.json --out coco.json --overwrite",
     "wrong name for a table: coco.json. It must be that of a CSV file"),
    ("a table over an image", decisions(ROW + ",accept"),
     f"audit --apply new.csv --data data --overwrite --out {IMAGE}",
     f"wrong name for a table: {IMAGE}. It must be that of a CSV file"),
    ("a layout that encode has not", nothing, "encode masks --out fresh.csv --layout auto",
     "wrong layout: auto. It must be current or original"),
    ("a table that would be packed", nothing, "encode masks --out new.csv.gz",
     "wrong name for a table: new.csv.gz. It must be that of a plain CSV file: pack it later"),
    ("too many classes", nothing, "encode masks --out fresh.csv --classes 999",
     "wrong number of classes: 999. It must be between 0 and 254"),
    ("a table that is a folder", nothing, "encode masks --out data", "cannot write data: it is a folder. Name a file"),
    # decode
    ("nothing to decode", nothing, "decode gone.csv --out masks --size 64x96", "gone.csv: no such file"),
    ("a size too small", table("a.png,1,1 3", "a.png,2,6 3"), "decode new.csv --out masks --size 2x3",
     "new.csv, line 3: a.png, class 2: run 1 (number 2): … past the end, pixel 6"),
    ("a size of nothing", nothing, "decode old.csv --out masks --size 99999999x99999999",
     "wrong size: 99999999x99999999. It must be at least 1x1, and fewer than 2,147,483,648 pixels"),
    ("masks that are there", nothing, "decode old.csv --out masks --size 64x96",
     "masks/000000001_2.png exists already. Give another folder, or replace them by --overwrite"),
    ("height and width exchanged", nothing, "decode data/train.csv --out new --size 96x64",
     "data/train.csv: at 96x64 its masks are jagged, at 64x96 they are not. The size is height x width: …"),
    ("a size that the images do not have", nothing, "decode old.csv --out new --size 96x64 --images data/train_images",
     "data/train_images/000000000.png: 64x96 pixels, but --size is 96x64. The size is height x width; with --images …"),
    ("an image with another ending", table("000000001.jpg,1,1 3"),
     "decode new.csv --out new --images data/train_images",
     "new.csv, line 2: no image 000000001.jpg in data/train_images (000000001.png exists). Give the folder of its …"),
    ("neither a size nor images", nothing, "decode old.csv --out new",
     "wrong size: None. It must be given by --size or --images"),
    ("masks among the images", nothing, "decode data/train.csv --out data/train_images --size 64x96",
     "data/train_images holds the images: 000000001.png is one. Masks would be taken for images: give another folder"),
    ("masks over an image", all_of(table("a_1.png,1,1 3", "a.png,1,1 3"), image("drawn/a_1.png", NOISE),
                                   image("drawn/a.png", NOISE)),
     "decode new.csv --out drawn --images drawn --overwrite",
     "drawn holds the images: a.png is one. Masks would be taken for images: give another folder"),
    ("masks below a file", nothing, "decode old.csv --out old.json --size 64x96",
     "cannot write masks to old.json: it is a file. Give a folder"),
    # audit
    ("an audit by no run", nothing, "audit nowhere", "no such run: nowhere. `severstal models` lists the trained runs"),
    ("an audit by a run of every image", all_of(change_card(fold=None), no_holdout), "audit models/good --data data",
     "models/good was trained on every image: it cannot judge annotations that it learnt. Give runs with a fold, …"),
    ("an audit of other annotations", annotate("000000001.png,1,1 3", "000000002.png,2,1 3"),
     "audit models/good --data data", "models/good was trained with another data than that of data: data …"),
    ("an audit by the same run twice", nothing, "audit models/good models/good",
     "a run is named twice: models/good models/good. Name each run once"),
    ("an audit that exists", write("new.csv", "mine"), "audit models/good --out new.csv",
     "new.csv exists already. Give another file, or replace it by --overwrite"),
    ("an audit beside another JSON", write("new.json", "{}"), "audit models/good --out new.csv",
     "new.json exists and is of another command. Choose another name for --out"),
    ("an audit below a file", nothing, "audit models/good --out old.csv/new.csv",
     "cannot write old.csv/new.csv: old.csv is a file. Name another folder"),
    ("an audit in a folder", nothing, "audit models/good --out data", "cannot write data: it is a folder. Name a file"),
    ("an audit with unknown views", nothing, "audit models/good --tta odd", "unknown test-time augmentation: odd…"),
    ("no decisions", nothing, f"{APPLY} gone.csv", "gone.csv: no such file"),
    ("decisions that are a folder", nothing, f"{APPLY} data", "data: it is a folder. Name a CSV file"),
    ("an audit without decisions", write("new.csv", f"{FINDINGS}\n"), f"{APPLY} new.csv",
     "new.csv, line 1: missing or doubled: Decision. Add a column Decision to audit.csv: accept, reject or skip"),
    ("annotations as decisions", nothing, f"{APPLY} data/train.csv",
     "data/train.csv, line 1: missing or doubled: Rank,Kind,…. Give audit.csv with a column Decision"),
    ("decisions that accept nothing", decisions(ROW + ",reject"), f"{APPLY} new.csv",
     "new.csv accepts no row: 1 row. Set Decision to accept in the rows to apply"),
    ("an unknown decision", decisions(ROW + ",ok"), f"{APPLY} new.csv",
     "new.csv, line 2: Decision 'ok' is not accept, reject or skip. "
     "A row stays as `severstal audit` wrote it, but for Decision"),
    ("a row that lost a field", decisions(ROW), f"{APPLY} new.csv",
     "new.csv, line 2: 13 fields where the header has 14. "
     "A row stays as `severstal audit` wrote it, but for Decision"),
    ("a row of an image that is not there", decisions(ROW.replace("000000000", "gone") + ",accept"),
     f"{APPLY} new.csv",
     "new.csv, line 2: there is no image gone.png. Give the decisions on an audit of this data"),
    ("a row of a class that is not there", decisions(ROW.replace(".png,1,", ".png,7,") + ",accept"),
     f"{APPLY} new.csv",
     "new.csv, line 2: no row of the annotations names class 7. Give the decisions on an audit of this data"),
    ("a component that is not there", decisions(ROW.replace("missed", "invented") + ",accept"), f"{APPLY} new.csv",
     "new.csv, line 2: invented in 000000000.png, class 1, is not in these annotations. They are …"),
    ("a mask past the end", decisions(ROW.replace("1 1", "9999 1") + ",accept"), f"{APPLY} new.csv",
     "new.csv, line 2: EncodedPixels: run 1 (number 1): start 9999 reaches past the end, pixel 6144. Give the …"),
    ("the same row twice", decisions(ROW + ",accept", ROW + ",accept"), f"{APPLY} new.csv",
     "new.csv, lines 2 and 3: both change the same pixels of 000000000.png, class 1. Accept one of them"),
    ("classes that would overlap", decisions(ROW + ",accept", ROW.replace(".png,1,", ".png,2,") + ",accept"),
     f"{APPLY} new.csv",
     "new.csv, line 2: class 1 of 000000000.png would overlap class 2, and no masks of these annotations overlap. …"),
    ("new annotations that exist", decisions(ROW + ",accept"), "audit --apply new.csv --data data --out old.csv",
     "old.csv exists already. Give another file, or replace it by --overwrite"),
    ("new annotations beside another JSON", all_of(decisions(ROW + ",accept"), write("fresh.json", "{}")),
     f"{APPLY} new.csv", "fresh.json exists and is of another command. Choose another name for --out"),
    ("decisions for no data", decisions(ROW + ",accept"), "audit --apply new.csv --data nowhere --out fresh.csv",
     "no such data folder: nowhere. Give the folder with train.csv and train_images/"),
    ("new annotations that would be packed", decisions(ROW + ",accept"),
     "audit --apply new.csv --data data --out fresh.csv.gz",
     "wrong name for a table: fresh.csv.gz. It must be that of a plain CSV file: pack it later"),
    # synth and demo
    ("a folder with other files", nothing, "synth data --images 2",
     "will not write to data: it holds files that are not a synthetic set. Name a new or empty folder"),
    ("a file instead of a folder", nothing, "synth old.csv --images 2",
     "cannot write a set to old.csv: it is a file. Name a folder"),
    ("a size that no JPEG has", nothing, "synth new --images 2 --size 65501x32",
     "wrong size: 65501x32. It must be at most 65,500 pixels a side, as in a JPEG"),
    ("a tiny size", nothing, "synth new --images 2 --size 8x8",
     "wrong size: 8x8. It must be at least 32x32, and fewer than 2,147,483,648 pixels"),
    ("no number of images", nothing, "synth new", "wrong number of images: None. It must be given by --images"),
    ("a list without annotations", nothing, "synth new --images 2 --list old.csv",
     "wrong image list: old.csv. It must be used with --annotations"),
    ("annotations larger than the images", nothing, "synth new --annotations data/train.csv --size 32x32",
     "data/train.csv, line 2: 000000001.png, class 2: … past the end, pixel 1024"),
    ("a demo among other files", nothing, "demo data",
     "will not write to data: it holds other files than a demo. Name a new or empty folder"),
    ("a demo in a file", nothing, "demo old.csv", "cannot write a demo to old.csv: it is a file. Name a folder"),
]  # fmt: skip


def flipped(data: bytes) -> bytes:
    """One byte in the middle is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def check_message(outcome: Any, said: str, code: int = 1) -> None:
    """The exit code, nothing on stdout, and at the end of stderr the one line that says all."""
    lines = outcome.err.splitlines()
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    assert [line.startswith("severstal: ") for line in lines].count(True) == 1, outcome.err
    pattern = ".+".join(map(re.escape, f"severstal: {said}".split("…")))
    assert re.fullmatch(pattern, lines[-1]), f"{lines[-1]}\nis not\nseverstal: {said}"
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(("wrong", "line", "said"), [pytest.param(*case[1:], id=case[0]) for case in TABLE])
def test_wrong_input_is_one_line_and_harms_nothing(
    severstal: Severstal, work: Path, wrong: Step, line: str, said: str
) -> None:
    wrong()
    before = snapshot(work)
    outcome = severstal(line)
    assert snapshot(work) == before
    check_message(outcome, said, code=2 if OPTION.match(said) else 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trian --data data", "No such command 'trian'. Did you mean 'train'?"),
        ("train --dta data", "No such option: --dta (Possible options: --data)"),
        ("train --data data --epochs 0", "Invalid value for '--epochs'"),
        ("train --data data --epochs 1e3", "Invalid value for '--epochs'"),
        ("train --data data --seed " + "9" * 40, "Invalid value for '--seed'"),
        (
            "train --data data --fold x",
            "'--fold': 'x' is neither the number of a fold, nor all, nor none",
        ),
        ("train --data data --time-limit soon", "Invalid value for '--time-limit': 'soon' is no time, as in 25m"),
        ("train --data data --devices 0", "Invalid value for '--devices'"),
        ("predict", "Missing argument 'IMAGES...'"),
        ("predict data/train_images --model models/good --batch-size 0", "Invalid value for '--batch-size'"),
        ("check old.csv --size 64", "Invalid value for '--size': '64' is not HEIGHTxWIDTH, as in 256x1600"),
        ("check old.csv --size 0x96", "Invalid value for '--size': '0x96' is not HEIGHTxWIDTH, as in 256x1600"),
        ("decode old.csv", "Missing option '--out'"),
        ("score old.csv old.csv", "unexpected extra argument"),
        ("synth new --images 0", "Invalid value for '--images'"),
        ("audit", "no run to audit with. Name runs of several folds, or give --apply decisions.csv"),
        ("audit models/good --apply old.csv", "--apply takes no runs: models/good. Omit them"),
        ("audit --apply old.csv --out new.csv", "--apply needs --data. Give --data DATA, the audited folder, and"),
        ("audit --apply old.csv --data data", "--apply needs --out. Give --data DATA, the audited folder, and"),
        ("audit --apply old.csv --tta flips", "--tta does nothing with --apply. Omit it"),
        ("audit --apply old.csv --batch-size 2", "--batch-size does nothing with --apply. Omit it"),
        ("audit models/good --batch-size 0", "Invalid value for '--batch-size'"),
        ("audit models/good --out new.json", "wrong name for a table: new.json. A JSON of that name is written"),
        (
            "audit --apply old.csv --data data --out data/train.csv --overwrite",
            "data/train.csv would be overwritten: it is the audited annotations. Give another file with --out",
        ),
        (
            "audit --apply old.csv --data data --out old.csv --overwrite",
            "old.csv would be overwritten: it is the decisions. Give another file with --out",
        ),
    ],
)
def test_wrong_usage_ends_with_2_and_harms_nothing(severstal: Severstal, work: Path, line: str, said: str) -> None:
    before = snapshot(work)
    outcome = severstal(line)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in " ".join(outcome.err.replace("│", " ").split())
    assert "Traceback" not in outcome.err
    assert snapshot(work) == before


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["000000001.png,0,1 2"], "fault: line 2: ClassId 0 is below 1 (where ids count from 0, add 1 to each; "),
        (["000000001.png,1,9 2 1 1"], "fault: line 2: 000000001.png, class 1: run 2 (number 3): start 1 is before"),
        (["000000001.png,1,6144 2"], "fault: line 2: 000000001.png, class 1: run 1 (number 2): "),
        (["000000001.png,1,1 2", "000000001.png,1,1 2", "x,1,"], "line 3: 000000001.png, class 1 is in line 2 already"),
        (["else.png,1,1 2"], "fault: line 2: else.png is not one of the expected images"),
    ],
)
def test_check_tells_faults_as_its_result(severstal: Severstal, work: Path, rows: list[str], said: str) -> None:
    table(*rows)()
    before = snapshot(work)
    outcome = severstal("check new.csv --images data/train_images")
    assert outcome.code == 1
    assert said in outcome.out
    assert "\nnew.csv: not valid, " in outcome.out
    assert "severstal: " not in outcome.err
    assert snapshot(work) == before


@pytest.mark.parametrize("size", [(40, 130), (200, 33), (1, 1)], ids=str)
def test_an_image_of_another_size_is_fine(severstal: Severstal, size: tuple[int, int]) -> None:
    picture("data/train_images/other.bmp", np.resize(NOISE, size))
    for line in (
        "split --data data",
        f"{TRAIN} --fold none",
        PREDICT,
        "check old.csv --images data/train_images",
        f"{SCORE} --images data/train_images",
    ):
        outcome = severstal(line)
        assert outcome.code == 0, outcome.err
    assert "other.bmp,1," not in Path("data/train.csv").read_text()
    assert f"{PAIRS}000000000.png_1," in Path("old.csv").read_text()
    assert "\nother.bmp_2," in Path("old.csv").read_text()


def test_a_sample_of_more_classes_than_the_run_gets_all_its_rows(severstal: Severstal) -> None:
    rows = [f"{image_id}_{class_id}" for image_id in ("000000002.png", "000000001.png") for class_id in (1, 2, 3, 4)]
    write("sample.csv", PAIRS + "".join(f"{row},1 1\n" for row in rows))()
    assert severstal(f"{PREDICT} --sample sample.csv").code == 0
    assert [line.partition(",")[0] for line in Path("old.csv").read_text().splitlines()[1:]] == rows
    assert severstal("check old.csv --sample sample.csv --size 64x96").code == 0


# The machine


def test_no_network_for_imagenet_weights(severstal: Severstal, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_route(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to\n'https://huggingface.co'")

    monkeypatch.setattr("huggingface_hub.get_session", no_route)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", no_route)
    before = snapshot(work)
    outcome = severstal("train --data data --encoder resnet18 --epochs 1")
    check_message(
        outcome,
        "the ImageNet weights of resnet18 could not be fetched: … We couldn't connect to '…'. Pass "
        "--encoder-weights none, or put them at models/encoders/resnet18.safetensors",
    )
    assert snapshot(work) == before


@pytest.mark.parametrize(
    "message",
    ["CUDA out of memory. Tried to allocate", "can't allocate memory: you tried", "not enough memory: you tried"],
)
def test_full_memory(severstal: Severstal, work: Path, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(loop.losses, "total_loss", fail)
    before = snapshot(work)
    check_message(severstal(TRAIN), "a batch of 8 does not fit the device's memory: … Pass …")
    assert snapshot(work) == before


def test_a_loss_that_is_no_number(severstal: Severstal, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.losses, "total_loss", lambda *_: torch.tensor(float("nan")))
    before = snapshot(work)
    check_message(severstal(TRAIN), "the loss is nan in epoch 1, batch 1: 0….png, 0….png. Look at these images, or …")
    assert snapshot(work) == before


WRITING = [
    ("split --data data", "data/splits.csv"),
    (f"{TRAIN}", "models/new/training.ckpt"),
    (RESUME, "models/good/model.json"),
    ("thresholds models/good", "models/good/thresholds.png"),
    (PREDICT, "old.csv"),
    (f"{PREDICT} --masks masks", "masks/000000000.png"),
    ("encode masks --out old.csv --overwrite", "old.csv"),
    ("decode old.csv --out masks --size 64x96 --overwrite", "masks/….png"),
    ("synth set --images 2 --size 32x40", "set/….jpg"),
    ("audit models/good --out fresh.csv", "fresh.csv"),
]
"""A command line that writes, and the first file that it cannot write."""


class BrokenFile:
    """A file that takes a few bytes and then fails."""

    def __init__(self, file: Any, error: OSError) -> None:
        self._file, self._error = file, error

    def write(self, data: Any) -> int:
        self._file.write(data[:7])
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "BrokenFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def break_writing(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Every file that is to appear by renaming fails while it is written."""
    opened = io.open

    def open_broken(file: Any, mode: str = "r", *options: Any, **named: Any) -> Any:
        found = opened(file, mode, *options, **named)
        is_ours = str(file).endswith(".part") and "w" in mode
        return BrokenFile(found, OSError(code, os.strerror(code))) if is_ours else found

    monkeypatch.setattr(io, "open", open_broken)
    monkeypatch.setattr(builtins, "open", open_broken)


@pytest.mark.parametrize(("line", "path"), WRITING, ids=[line for line, _ in WRITING])
@pytest.mark.parametrize(
    ("code", "found"),
    [
        (errno.ENOSPC, "No space left on device. Free some space or name another folder"),
        (errno.EACCES, f"Permission denied. {PATHS}"),
    ],
    ids=["full disk", "no permission"],
)
def test_a_failing_write(
    severstal: Severstal, work: Path, monkeypatch: pytest.MonkeyPatch, line: str, path: str, code: int, found: str
) -> None:
    saved = torch.load("models/good/training.ckpt", weights_only=True)
    saved["card"]["config"]["average_decay"] = TrainConfig.average_decay  # no option changes it: then it can go on
    torch.save(saved, "models/good/training.ckpt")
    before = snapshot(work)
    with monkeypatch.context() as broken:
        break_writing(broken, code)
        if line == RESUME:  # its best epoch may be behind it: then only the checkpoint is written
            broken.setattr("severstal_cli.learning.runs.run_folder.write_model", lambda *_: None)
        outcome = severstal(line)
    if line.startswith("synth"):  # the first file tells that the folder is ours
        path = "set/synthetic.json"
    if line.startswith("predict"):  # likewise
        path = "old.parts/plan.json"
    check_message(outcome, f"cannot write {path}: {found}")
    after = snapshot(work)
    assert {name: after.get(name) for name in before} == before
    assert set(after) - set(before) <= {"models/new", "set"}  # folders
    assert parts_left() == []


def test_no_permission_to_read(severstal: Severstal, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = io.open

    def refuse(file: Any, *options: Any, **named: Any) -> Any:
        if str(file).endswith(("001.png", "train.csv")):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *options, **named)

    before = snapshot(work)
    with monkeypatch.context() as broken:
        broken.setattr(io, "open", refuse)
        image_outcome, table_outcome = severstal(PREDICT), severstal("split --data data")
    check_message(image_outcome, f"cannot read {IMAGE}: Permission denied. Change its permissions")
    check_message(table_outcome, "cannot read data/train.csv: Permission denied. Change its permissions")
    assert snapshot(work) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 KiB, where this machine lets us have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no small disk: {error}")
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (f"{TRAIN} --models disk/models", "disk/models/new/training.ckpt"),
        ("thresholds models/good --out disk/t.json", "disk/t.…"),
        (f"{PREDICT} --masks disk/masks", "disk/masks/….png"),
        ("decode noise.csv --out disk/masks --size 64x96", "disk/masks/….png"),
        ("synth disk/set --images 30 --size 64x96", "disk/set/train_images/….jpg"),
        ("encode noise --out disk/t.csv", "disk/t.csv"),
    ],
)
def test_a_disk_that_fills_up(severstal: Severstal, work: Path, small_disk: Path, line: str, path: str) -> None:
    Path("disk").symlink_to(small_disk)
    noise = (np.random.default_rng(1).random((64, 96)) < 0.5).astype(np.uint8) * 255
    for number in range(30):
        picture(f"noise/{number}_1.png", noise)
    masks = "".join(f"{number}.png,1,{rle.to_text(rle.encode(noise))}\n" for number in range(60))
    Path("noise.csv").write_text(HEADER + masks)
    before = snapshot(work)
    expected = f"cannot write {path}: No space left on device. Free some space or name another folder"
    if line.startswith("train"):
        expected = f"the disk of {Path(path).parent} is too full for the training: 0.0 MB free, its checkpoints need …"
    check_message(severstal(line), expected)
    assert snapshot(work) == before
    assert list(small_disk.rglob("*.part")) == []
    for picture_path in small_disk.rglob("*.png"):
        assert cv2.imread(str(picture_path)) is not None  # what is there is whole


def test_a_disk_too_small_for_the_image_cache(severstal: Severstal, small_disk: Path) -> None:
    for number in range(4):
        picture(f"{small_disk}/train_images/{number}.png", NOISE * 0)
    table("0.png,1,1 3", name=f"{small_disk}/train.csv")()
    before = snapshot(small_disk)
    said = (
        f"cannot cache the decoded images in {small_disk}/.severstal: 24,576 bytes needed, … free. "
        "Free some space, or let XDG_CACHE_HOME name a larger disk and make the data folder read-only"
    )
    check_message(severstal(f"split --data {small_disk}"), said)
    assert snapshot(small_disk) == before


# Ctrl-C

STOPPED = [
    ("split --data fresh", 5, "reading images"),
    ("split --data fresh", 45 + 5, "comparing images"),
    (TRAIN.replace("epochs 1", "epochs 3"), 7, "in the second epoch"),
    (TRAIN.replace("epochs 1", "epochs 3"), 2, "in the first epoch"),
    ("thresholds models/good", 3, "predicting"),
    ("score --model models/good", 3, "predicting"),
    (PREDICT, 20, "predicting"),
    (f"{PREDICT} --masks masks", 20, "predicting with pictures"),
    ("check old.csv --images data/train_images", 3, "reading sizes"),
    ("encode masks --out old.csv --overwrite", 1, "reading masks"),
    ("decode old.csv --out new --size 64x96", 9, "writing masks"),
    ("decode old.csv --out masks --size 64x96 --overwrite", 9, "writing over masks"),
    ("synth set --images 20 --size 32x40", 9, "drawing"),
]


@pytest.mark.parametrize(("line", "steps", "where"), STOPPED, ids=[f"{line}: {where}" for line, _, where in STOPPED])
def test_ctrl_c_ends_with_130_and_harms_nothing(
    severstal: Severstal, work: Path, monkeypatch: pytest.MonkeyPatch, line: str, steps: int, where: str
) -> None:
    Path("fresh").mkdir()
    shutil.copytree("data/train_images", "fresh/train_images")
    shutil.copy("data/train.csv", "fresh")
    left = steps
    advance = progress._PlainBar.advance

    def stop(bar: Any, steps: int = 1, note: str = "") -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        advance(bar, steps, note)

    before = snapshot(work)
    monkeypatch.setattr(progress._PlainBar, "advance", stop)
    outcome = severstal(line)
    monkeypatch.setattr(progress._PlainBar, "advance", advance)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.endswith("\nseverstal: interrupted\n")
    assert "Traceback" not in outcome.err
    after = snapshot(work)
    assert {name: after.get(name) for name in before} == before
    assert parts_left() == []
    new = {name for name in set(after) - set(before) if Path(name).is_file()}
    kept = ("models/new/", "old.parts/", "masks/", "new/", "set/")  # whole epochs, parts, pictures and masks
    assert {name for name in new if not name.startswith(kept)} == set()
    assert "set/train.csv" not in new  # without it, it is no set
    if where == "in the first epoch":
        assert new == set()
    goes_on = where == "in the second epoch" or line.startswith("predict ")
    again = severstal(f"{line} --resume" if goes_on else line)
    assert again.code == 0, again.err
    if where == "in the second epoch":
        assert "resuming after epoch 1" in again.err


SIGNALLED = """
import signal, sys
from severstal_cli import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
sys.argv = ["severstal", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        ("train --data data --arch unet-small --epochs 500 --name new", "models/new/training.ckpt"),
        ("synth set --images 5000 --size 64x96", "set/train_images/*.jpg"),
    ],
    ids=["train", "synth"],
)
def test_a_real_signal_does_the_same(severstal: Severstal, work: Path, line: str, sign: str) -> None:
    command = [sys.executable, "-c", SIGNALLED, *line.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 600
        while not list(Path().glob(sign)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (130, ""), err
    assert err.endswith("\nseverstal: interrupted\n")
    assert "Traceback" not in err
    assert parts_left() == []
    if line.startswith("train"):
        epochs = len(re.findall("^epoch ", err, flags=re.MULTILINE))
        rows = torch.load("models/new/training.ckpt", weights_only=True)["history"]
        assert len(rows) - epochs in (0, 1)  # the line comes after the file
        again = severstal(line.replace("500", str(len(rows) + 1)) + " --resume")
        assert again.code == 0, again.err
        assert f"resuming after epoch {len(rows)}" in again.err
