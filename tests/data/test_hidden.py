"""Values that are hidden on purpose: which, that no model sees them, and that what they are is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vaelab.data import DataModule, Missing, Table, breast_cancer
from vaelab.data.hidden import read_hidden

LINES = ["id,age,sort,kind"] + [f"r{i},{20.5 + i},{'xyz'[i % 3]},{i % 2}" for i in range(60)]


@pytest.fixture
def table(tmp_path: Path) -> str:
    (tmp_path / "my.csv").write_text("\n".join(LINES) + "\n")
    return str(tmp_path / "my.csv")


def test_the_cells_of_a_file_are_hidden_and_their_truth_is_kept(table: str, tmp_path: Path) -> None:
    """Rows and columns count from 1, and columns that no model is shown count, too."""
    (tmp_path / "hidden.csv").write_text("1,2\n\n60,3\n7,1\n7,2\n")
    read = Table(table, hidden=str(tmp_path / "hidden.csv"), test_share=0)
    assert read.found["missing"]
    data = read("train")
    assert data.x.isnan().nonzero().tolist() == [[0, 0], [6, 0], [59, 1]]
    assert data.truth is not None
    torch.testing.assert_close(data.truth, Table(table, test_share=0)("train").x)
    torch.testing.assert_close(data.x, data.truth.where(~data.x.isnan(), torch.nan), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("61,1\n", "line 1: no row 61, column 1 in 60 rows and 4 columns"),
        ("1,1\n1,0\n", "line 2: no row 1, column 0"),
        ("row,column\n", "line 1: 'row,column' must be a row and a column, such as 17,3"),
        ("3\n", "line 1: '3' must be a row and a column"),
        ("1.5,2\n", "line 1: '1.5,2' must be a row and a column"),
    ],
)
def test_a_cell_that_is_not_there_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "hidden.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_hidden(tmp_path / "hidden.csv", (60, 4))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.hidden=.*none\.csv cannot be read"):
        read_hidden(tmp_path / "none.csv", (60, 4))


def test_splits_that_share_their_rows_share_what_is_hidden(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Or a model would be tested on values that it was trained on. It is said once that they do."""
    for dataset, shape in ((breast_cancer, [30]), (Table(table, test_share=0), [3])):
        data = DataModule(dataset, shape, 8, transform=Missing(0.3), static_seed=3, missing=True, val_size=None)
        data.setup("fit")
        data.setup("test")
        assert capsys.readouterr().out.count(f"every split has the same {len(data.splits['test'])} ") == 1
        rows = {}
        for name, split in data.splits.items():
            x, _ = split[torch.arange(len(split))]
            rows[name] = x[split.indices.argsort()]
            assert 0.2 < x.isnan().float().mean() < 0.4
        assert torch.equal(rows["train"].isnan(), rows["val"].isnan())
        assert torch.equal(rows["train"].isnan(), rows["test"].isnan())
        whole, _ = data.splits["test"].untransformed()[torch.arange(len(x))]
        assert not whole.isnan().any()


def test_every_split_of_a_table_without_test_rows_has_all_rows(table: str) -> None:
    read = Table(table, test_share=0)
    assert [len(read(split)) for split in ("train", "val", "test")] == [60, 60, 60]
    assert np.array_equal(read("test").names, read("train").names)
    with pytest.raises(ValueError, match="split=val"):
        Table(table)("val")
