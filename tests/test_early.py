"""Wrong names are reported before torch and the libraries of encoders are imported, which takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ALL = (
    ("train --data data --arch unett", "unknown architecture: unett. Choose one of"),
    ("train --data data --encoder resnet19", "unknown encoder: resnet19. Did you mean resnet18?"),
    ("train --data data --encoder tu-nothing_like_it", "unknown encoder: tu-nothing_like_it."),
    ("train --data data --encoder tu-hf-hub:a/b", "not the name of an encoder: tu-hf-hub:a/b."),
    ("train --data data --encoder-weights gone.pth", "no such file of encoder weights: gone.pth."),
    ("train --data data --encoder-weights ssl", "resnet34 has no weights of this name: ssl."),
    ("train --data gone", "no such data folder: gone."),
    ("train --data split --fold 9", "no such fold: 9. The split has folds 0, 1; or --fold none"),
    ("train --data split --fold none --arch unett", "unknown architecture: unett."),
    ("train --data data --init models/gone", "no such run: models/gone."),
    ("train --data data --name good", "a run of this name exists: models/good."),
    ("train --data data --config settings.json", "unknown encoder: resnet19."),
    ("thresholds models/gone", "no such run: models/gone."),
    ("thresholds models/empty", "models/empty/model.json is missing."),
    ("thresholds models/good --data gone", "no such data folder: gone."),
    ("export models/gone --format onnx", "no such run: models/gone."),
    ("predict data/train_images --model models/gone", "no such run: models/gone."),
    ("predict data/gone --model models/good", "data/gone: no such file or folder."),
    ("predict data/train_images --models none", "no trained run in none."),
    ("score models/gone", "no such run: models/gone."),
    ("score --model models/gone", "no such run: models/gone."),
    ("score models/good --data gone", "no such data folder: gone."),
    ("compare unet linknett", "linknett is neither a network nor the folder of a run. Did you mean linknet?"),
    ("compare unet models/empty", "models/empty/model.json is missing."),
    ("compare unet linknet --data data --encoder resnet19", "unknown encoder: resnet19."),
    ("compare unet linknet --data gone", "no such data folder: gone."),
    ("report models/gone", "models/gone: no such file or folder."),
    ("submit models/gone", "no such run: models/gone."),
)

RUN = """
import contextlib, io, json, shlex, sys
from severstal_cli.cli import main
found = []
for command in json.loads(sys.stdin.read()):
    sys.argv, stderr, code = ["severstal", *shlex.split(command)], io.StringIO(), 0
    with contextlib.redirect_stderr(stderr):
        try:
            main()
        except SystemExit as end:
            code = end.code
    loaded = [name for name in ("torch", "timm", "segmentation_models_pytorch") if name in sys.modules]
    found.append((code, stderr.getvalue(), loaded))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """What each command gave in a process of its own: exit code, standard error, heavy libraries that it imported."""
    root: Path = tmp_path_factory.mktemp("early")
    for name in ("data", "split"):
        (root / name / "train_images").mkdir(parents=True)
        (root / name / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n")
    rows = "a.png,0,0,1\nb.png,1,1,\nc.png,holdout,2,\n"
    (root / "split/splits.csv").write_text("ImageId,Part,Group,Classes\n" + rows)
    for name in ("good", "empty"):
        (root / "models" / name).mkdir(parents=True)
    (root / "models/good/model.json").write_text("{}")
    (root / "settings.json").write_text(json.dumps({"encoder": "resnet19"}))
    commands = [command for command, _ in ALL]
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(commands), capture_output=True, text=True, check=True, cwd=root
    )
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("command", "line"), ALL, ids=[command for command, _ in ALL])
def test_a_wrong_name_is_reported_before_torch_is_imported(
    found: dict[str, tuple[int, str, list[str]]], command: str, line: str
) -> None:
    code, stderr, loaded = found[command]
    assert stderr.startswith(f"severstal: {line}")
    assert stderr.count("\n") == 1
    assert code in (1, 2)
    assert loaded == []
