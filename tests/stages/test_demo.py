"""`demo` on a few small images."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from severstal_cli import cli
from severstal_cli.stages import demo
from severstal_cli.steel import class_names
from severstal_cli.steel.synth import series


def test_a_demo_ends_with_scores_figures_a_report_and_the_next_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SIZE", (64, 64))
    monkeypatch.setattr(demo, "FAST", demo._Scale(train_images=60, epochs=1))
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    out = tmp_path / "demo"
    for _ in range(2):  # the second replaces the first
        result = CliRunner().invoke(cli.app, ["demo", str(out), "--fast", "--open"])
        assert result.exit_code == 0, result.output
    printed = " ".join(result.stdout.split())
    for pattern in (
        r"predicting nothing 0\.\d{4}",
        r"linknet is (better|worse) than unet|no significant difference|too few to decide|differ on no image",
        r"unet: validation Dice 0\.\d{4} at threshold 0\.5, 0\.\d{4} with",
        r"severstal train --data data",
    ):
        assert re.search(pattern, printed), pattern
    page = out / "report" / "index.html"
    assert f"look at {page}" in printed
    assert opened == [page.as_uri()] * 2
    figures = [
        out / "comparison" / "comparison.png",
        *(out / "models" / "unet" / f"{name}.png" for name in ("history", "thresholds")),
    ]
    assert ", ".join(map(str, figures)) in printed
    assert all(path.stat().st_size > 1000 for path in (page, *figures))
    assert (out / "submissions" / "linknet.csv").is_file()
    assert class_names.read(out / "data" / "classes.txt") == demo.CLASSES


def test_an_easy_set_has_larger_defects_and_calm_steel() -> None:
    usual, easy = (
        series.SetPlan(seed=3, size=(64, 256), defect_share=1.0, rare_boost=1.0, difficulty=difficulty)
        for difficulty in (1.0, 0.0)
    )
    areas = [
        sum((series.draw_annotation(plan, series.TRAIN, number) > 0).mean() for number in range(30)) / 30
        for plan in (usual, easy)
    ]
    assert 2.5 * areas[0] < areas[1] < 0.5
    clean = [
        series.SetPlan(seed=3, size=(64, 256), defect_share=0.0, difficulty=plan.difficulty) for plan in (usual, easy)
    ]
    spread = [
        sum(float(series.draw_image(plan, series.TRAIN, number)[0].std()) for number in range(30)) for plan in clean
    ]
    assert spread[1] < 0.7 * spread[0]
