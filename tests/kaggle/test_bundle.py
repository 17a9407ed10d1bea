"""The bundle: reproducible, without local data, and refused if the notebook would fail."""

import errno
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from server import Said

import severstal_cli
from severstal_cli.errors import InputError, OutputError, RunError, SeverstalError
from severstal_cli.kaggle import bundle, by_hand, wheels
from severstal_cli.learning.inference import ensemble, level_maps
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.runs.thresholds import Thresholds
from severstal_cli.steel.masks.postprocess import ClassPostprocess

Build = Callable[..., bundle.Bundle]


@pytest.fixture(autouse=True)
def small_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One wheel instead of all, which have tests of their own."""
    monkeypatch.setattr(wheels, "missing_wheels", lambda: [wheels.Wheel(name="toy-1-py3-none-any.whl", content=b"x")])


@pytest.fixture
def model(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    """A trained run that may be changed."""
    return Path(shutil.copytree(trained[1], tmp_path / "mine" / trained[1].name))


@pytest.fixture
def build(tmp_path: Path, model: Path) -> Build:
    """`build("out", thresholds=...)`: a bundle of `model` in a folder of that name."""

    def make(name: str = "out", *runs: Path, **options: object) -> bundle.Bundle:
        return bundle.build(tmp_path / name, runs=runs or (model,), **options)

    return make


def files_of(made: bundle.Bundle) -> dict[str, bytes]:
    return {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for folder in (made.dataset, made.kernel)
        for path in folder.rglob("*")
        if path.is_file()
    }


def contents_of(made: bundle.Bundle) -> dict[str, object]:
    found: dict[str, object] = json.loads((made.dataset / "severstal-bundle.json").read_text())
    return found


def test_it_holds_what_the_notebook_needs(build: Build, model: Path) -> None:
    made = build(user="Some-Body")
    name = model.name
    dataset = {
        "dataset-metadata.json",
        "severstal-bundle.json",
        "thresholds.json",
        "wheels/toy-1-py3-none-any.whl",
        "runs/1/model.json",
        "runs/1/model.safetensors",
    }
    kernel = {"kernel/script.py", "kernel/kernel-metadata.json"}
    assert set(files_of(made)) == {f"dataset/{path}" for path in dataset} | kernel
    contents = contents_of(made)
    listed = contents.pop("files")
    assert isinstance(listed, dict)
    assert set(listed) == dataset - {"dataset-metadata.json", "severstal-bundle.json"}
    for path, digest in listed.items():
        assert hashlib.sha256((made.dataset / path).read_bytes()).hexdigest() == digest
    assert contents == {
        "format": 1, "severstal": severstal_cli.__version__, "competition": "severstal-steel-defect-detection",
        "runs": [{"name": name, "folder": "runs/1", "arch": "unet-small", "encoder": None, "fold": 0,
                  "validation_dice": model_card.read_card(model).validation_dice}],
        "thresholds": "thresholds.json", "tta": "none", "layout": "original",
    }  # fmt: skip
    assert made.runs == (name,)
    assert made.validation_dice == model_card.read_card(model).validation_dice


def test_the_metadata_is_for_a_private_notebook_without_internet(build: Build) -> None:
    made = build(user="Some-Body", competition="another")
    kernel = json.loads((made.kernel / "kernel-metadata.json").read_text())
    assert kernel == kernel | {
        "id": f"Some-Body/{made.slug}-notebook",
        "title": f"{made.slug}-notebook",
        "code_file": "script.py",
        "kernel_type": "script",
        "is_private": True,
        "enable_internet": False,
        "enable_gpu": True,
        "dataset_sources": [f"Some-Body/{made.slug}"],
        "competition_sources": ["another"],
    }
    dataset = json.loads((made.dataset / "dataset-metadata.json").read_text())
    assert (dataset["id"], len(dataset["licenses"])) == (f"Some-Body/{made.slug}", 1)


def test_names_of_runs_may_hold_any_letter(build: Build, model: Path) -> None:
    """Kaggle refuses & and @ in the paths of a dataset, as others saw."""
    odd = model.rename(model.parent / "r&d @home (1), ünï")
    made = build("out", odd)
    assert all(re.fullmatch(r"[A-Za-z0-9._/-]+", path) for path in files_of(made))
    contents = contents_of(made)
    assert [(each["name"], each["folder"]) for each in contents["runs"]] == [(odd.name, "runs/1")]


def test_the_fingerprint_is_that_of_earlier_versions(build: Build, model: Path) -> None:
    """Else the same runs would be submitted again."""
    other = Path(shutil.copytree(model, model.parent / f"{model.name}-2"))  # its path sorts differently as text
    made = build("out", model, other)
    contents = contents_of(made)
    files = {
        f"runs/{each.name}/{file}": run_file
        for number, each in enumerate((model, other), start=1)
        for file in ("model.json", "model.safetensors")
        for run_file in [contents["files"][f"runs/{number}/{file}"]]
    }
    files["thresholds.json"] = contents["files"]["thresholds.json"]
    parts = [files, "none", "original", "severstal-steel-defect-detection"]
    assert made.fingerprint == hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def test_the_readme_has_commands_that_can_be_copied(build: Build) -> None:
    made = build("out", user="Some-Body")
    text = (made.dataset.parent / bundle.README).read_text()
    assert "    kaggle datasets create -p dataset --dir-mode zip\n" in text
    assert "    kaggle kernels push -p kernel\n" in text
    assert f"-k Some-Body/{made.slug}-notebook -v 1 -f submission.csv" in text
    assert by_hand.NOBODY not in text
    unknown = (build("other").dataset.parent / bundle.README).read_text()
    assert unknown.startswith(f"First replace {by_hand.NOBODY} by the name of your Kaggle account")
    assert by_hand.NOBODY in unknown


def test_what_it_holds_loads_and_predicts_the_same(build: Build, model: Path) -> None:
    made = build()
    copy = made.dataset / "runs/1"
    card, bundled = model_card.read_card(model), model_card.read_card(copy)
    assert bundled == replace(card, data="", config={})
    assert (copy / run_folder.WEIGHTS).read_bytes() == (model / run_folder.WEIGHTS).read_bytes()
    rules = run_folder.read_thresholds(made.dataset / "thresholds.json", classes=card.classes)
    assert rules == replace(run_folder.thresholds_of(model, card), runs=())


def test_the_same_runs_give_the_same_bytes_and_other_masks_another_fingerprint(
    build: Build, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, of_user = build("a"), build("b"), build("c", user="somebody")
    assert files_of(first) == files_of(second)
    assert first.fingerprint == second.fingerprint == of_user.fingerprint
    differ = {path for path, content in files_of(of_user).items() if content != files_of(first)[path]}
    assert differ == {"dataset/dataset-metadata.json", "kernel/kernel-metadata.json"}
    found = {first.fingerprint, build("d", tta="flips").fingerprint, build("e", competition="x").fingerprint}
    run_folder.write_thresholds(
        model / run_folder.THRESHOLDS, Thresholds(rules=(ClassPostprocess(),) * 2, exclusive=True, tta="none"), {}
    )
    found.add((other := build("f")).fingerprint)
    assert len(found) == 4
    monkeypatch.setattr(wheels, "missing_wheels", lambda: [wheels.Wheel(name="toy-1-py3-none-any.whl", content=b"y")])
    newer = build("g")
    assert newer.fingerprint == other.fingerprint, "a newer program is no new submission"
    assert newer.contents != other.contents, "but its script needs a dataset of its own"
    digest = hashlib.sha256((newer.dataset / "severstal-bundle.json").read_bytes()).hexdigest()
    assert (newer.contents, f'\nBUNDLE = "{digest}"\n' in (newer.kernel / "script.py").read_text()) == (digest, True)


def test_it_has_no_local_data(build: Build, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_never_to_be_seen")
    monkeypatch.setenv("KAGGLE_USERNAME", "environments-user")
    thresholds = json.loads((model / run_folder.THRESHOLDS).read_text())
    assert thresholds["runs"], "the test is about this path"
    card = model_card.read_card(model)
    assert card.data.startswith("/")
    for content in files_of(build(thresholds=model / run_folder.THRESHOLDS)).values():
        for secret in (
            card.data,
            card.config["models"],
            thresholds["runs"][0],
            str(tmp_path),
            "KGAT_never_to_be_seen",
            "environments-user",
        ):
            assert secret.encode() not in content


def test_several_runs_share_one_set_of_rules(build: Build, model: Path, trained: tuple[Path, Path]) -> None:
    """Without --thresholds those of the best run, as in `predict`; folders with the same name get numbers."""
    card = model_card.read_card(model)
    model_card.write_card(model, replace(card, validation_dice=(card.validation_dice or 0) - 0.1))
    run_folder.write_thresholds(
        model / run_folder.THRESHOLDS, Thresholds(rules=(ClassPostprocess(),) * 2, exclusive=False, tta="flips"), {}
    )
    said = Said()
    made = build("out", model, trained[1], progress=said)
    assert made.runs == (model.name, f"{model.name}-2")
    assert made.validation_dice is None
    assert contents_of(made)["tta"] == "none"
    assert "searched for that run alone" in said.lines[0]
    assert str(trained[1]) in said.lines[0]
    rules = run_folder.read_thresholds(made.dataset / "thresholds.json", classes=2)
    assert rules == replace(run_folder.thresholds_of(trained[1], model_card.read_card(trained[1])), runs=())
    assert contents_of(build("out", model, trained[1], thresholds=model / run_folder.THRESHOLDS))["tta"] == "flips"


def test_an_ensemble_keeps_its_weights_by_the_names_in_the_bundle(
    build: Build, model: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    runs = (model, trained[1])  # with the same name
    searched = Thresholds(rules=(ClassPostprocess(),) * 2, exclusive=True, tta="none", runs=tuple(map(str, runs[::-1])))
    for name, weights in (("even", ()), ("weighted", (1.0, 3.0)), ("other", (1.0, 2.0))):
        run_folder.write_thresholds(
            tmp_path / f"{name}.json", replace(searched, weights=weights), {"folds": str(model)}
        )
    said = Said()
    made = build("out", *runs, thresholds=tmp_path / "weighted.json", progress=said)
    assert not any("searched" in line for line in said.lines)
    rules = run_folder.read_thresholds(made.dataset / "thresholds.json", classes=2)
    assert (rules.runs, rules.weights) == (made.runs, (3.0, 1.0))
    bundled = []
    for number, name in enumerate(made.runs, start=1):  # as the notebook names them
        bundled.append((made.dataset / "runs" / str(number)).rename(made.dataset / "runs" / name))
    how = ensemble.read(bundled[::-1], thresholds=made.dataset / "thresholds.json")
    assert (how.weights, list(how.notes())) == ((1.0, 3.0), [])
    made = build("out", *runs, thresholds=tmp_path / "weighted.json")
    for content in files_of(made).values():
        assert str(tmp_path).encode() not in content
        assert str(trained[1].parent).encode() not in content
    other, even = (build("out", *runs, thresholds=tmp_path / f"{name}.json") for name in ("other", "even"))
    assert len({made.fingerprint, even.fingerprint, other.fingerprint}) == 3
    written = json.loads((even.dataset / "thresholds.json").read_text())
    assert set(written) == {"format", "exclusive", "tta", "rules"}  # as before: no new submission of the same runs


def test_a_refused_bundle_leaves_no_folder(build: Build, model: Path, tmp_path: Path) -> None:
    weights = model / run_folder.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "mine/empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name in ("out", "new/out", "mine/empty"):
        with pytest.raises(RunError, match=f"{weights} is damaged"):
            build(name)
    assert sorted(tmp_path.rglob("*")) == before, "a folder that existed stays"


def test_an_earlier_bundle_is_replaced_and_the_rest_of_the_folder_stays(build: Build, tmp_path: Path) -> None:
    (tmp_path / "out/.severstal-bundle-killed/dataset").mkdir(parents=True)
    (tmp_path / "out/state.json").write_text("mine")
    (build().dataset / "of-an-earlier-time.whl").write_text("x")
    made = build(tta="hflip")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "dataset",
        "kernel",
        "state.json",
    ]
    assert not (made.dataset / "of-an-earlier-time.whl").exists()
    assert contents_of(made)["tta"] == "hflip"


@pytest.mark.parametrize("name", ["dataset", "kernel"])
def test_other_files_are_not_replaced(build: Build, tmp_path: Path, name: str) -> None:
    (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / name / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=f"{name} exists and is not a bundle"):
        build()
    assert [path.name for path in (tmp_path / "out").rglob("*")] == [name, "thesis.txt"]


def test_a_full_disk_leaves_the_earlier_bundle(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(made := build())

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", no_space)
    with pytest.raises(OutputError, match=r"cannot write .*out: No space left on device\. Free some space"):
        build(tta="hflip")
    assert files_of(made) == before
    assert sorted(path.name for path in made.dataset.parent.iterdir()) == ["README.md", "dataset", "kernel"]


def test_a_file_instead_of_the_folder_is_reported(build: Build, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match=r"cannot write .*out: "):
        build()


def spoil_weights(model: Path) -> None:
    (model / run_folder.WEIGHTS).write_bytes((model / run_folder.WEIGHTS).read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "options", "kind", "line"),
    [
        (spoil_weights, {}, RunError, "model.safetensors is damaged"),
        (lambda model: (model / run_folder.WEIGHTS).unlink(), {}, RunError, "model.safetensors is missing"),
        (lambda model: (model / run_folder.THRESHOLDS).unlink(), {}, RunError, "Search them: severstal thresholds"),
        (shutil.rmtree, {}, RunError, "no such run"),
        (lambda _: None, {"tta": "upside-down"}, InputError, "unknown test-time augmentation"),
        (lambda _: None, {"user": "../me"}, InputError, "wrong name of a Kaggle account"),
        (lambda _: None, {"thresholds": Path("nowhere.json")}, RunError, "nowhere.json is missing"),
    ],
)
def test_runs_that_would_fail_in_the_notebook_are_refused(
    build: Build,
    model: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    options: dict[str, object],
    kind: type[SeverstalError],
    line: str,
) -> None:
    spoil(model)
    with pytest.raises(kind, match=line):
        build(**options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_run_is_named_once(build: Build, model: Path) -> None:
    with pytest.raises(InputError, match="a run is named twice"):
        build("out", model, model.parent / "." / model.name)
    with pytest.raises(InputError, match="no run to submit"):
        bundle.build(model.parent, runs=())


@pytest.mark.parametrize(
    ("names", "slug"),
    [
        (["unet-resnet34-fold0"], "severstal-unet-resnet34-fold0"),
        (["My_Run.2"], "severstal-my-run-2"),
        (["a", "b"], "severstal-a-b"),
        (["a", "a"], "severstal-a-a-2"),
    ],
)
def test_the_slug_is_made_of_the_names(names: list[str], slug: str) -> None:
    assert bundle.slug_of(names) == slug


def test_long_and_non_ascii_names_get_different_slugs() -> None:
    names: list[list[str]] = [["x" * 80], ["x" * 81], ["я"], ["ю"], ["日本"], ["x" * 40, "y"], ["x" * 40, "z"]]
    slugs = [bundle.slug_of(each) for each in names]
    assert len(set(slugs)) == len(slugs)
    for slug in slugs:
        assert 6 <= len(slug) <= 50
        assert slug.startswith("severstal")
        assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_the_time_is_measured_with_the_views_and_size_of_the_run(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()

    def slow(
        members: list[object], images: list[np.ndarray], *_: object, views: str, batch_size: int
    ) -> Iterator[None]:
        asked.add((len(members), images[0].shape, views))
        for _ in images:
            now[0] += 0.1
            yield

    now = [0.0]
    monkeypatch.setattr(bundle.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(level_maps, "predict_levels", slow)
    seconds, device = bundle.estimate_s(runs=[model], tta="flips", images=1000)
    assert 95 < seconds < 200
    assert device in ("cpu", "cuda")
    assert asked == {(1, (64, 96), "flips")}


def test_the_real_wheels_go_in(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = sorted((build().dataset / "wheels").iterdir())
    assert "segmentation_models_pytorch" in " ".join(path.name for path in found)
    assert all(zipfile.is_zipfile(path) for path in found)
