"""The origin of annotations: it is known as long as they are those that it was written for."""

from pathlib import Path

from severstal_cli.steel.dataset import origin


def test_the_origin_is_that_of_the_table_beside_it(tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    assert origin.read(table, "new") is None
    origin.write(table, data="new", origin="old", decisions="d.csv", accepted={"missed": 1})
    assert origin.read(table, "new") == "old"
    assert origin.read(table, "changed since") is None
    (tmp_path / "train.json").write_text("[]")
    assert origin.read(table, "new") is None
