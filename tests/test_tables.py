"""One table: the same cells as dicts, text, Markdown and HTML."""

import pytest

from yolothreads.tables import Table


@pytest.fixture
def table() -> Table:
    return Table(["pool", "images/s"], [["Sequential", "007.50"], ["<b>&", 12]], "Measured <here> & now")


def test_dicts_contain_the_values_unchanged(table: Table) -> None:
    assert table.to_dicts() == [{"pool": "Sequential", "images/s": "007.50"}, {"pool": "<b>&", "images/s": 12}]
    with pytest.raises(ValueError, match="argument 2"):
        Table(["a", "b"], [[1]]).to_dicts()


def test_text_has_headers_unchanged_cells_and_the_caption(table: Table) -> None:
    lines = str(table).splitlines()
    assert lines[0].split() == ["pool", "images/s"] and lines[-1] == "Measured <here> & now"
    assert "007.50" in lines[2] and repr(table) == str(table)
    assert str(Table(["a"], [[1]])).splitlines()[-1].strip() == "1"


def test_markdown_is_that_of_github(table: Table) -> None:
    header, rule, *rows = table.to_markdown().splitlines()
    assert header.count("|") == 3 and set(rule) <= set("|-: ") and len(rows) == 2


def test_html_is_escaped_and_its_headers_have_a_scope(table: Table) -> None:
    html = table._repr_html_()
    assert html.count('<th scope="col">') == 2 and "<th>" not in html
    assert ">Measured &lt;here&gt; &amp; now</caption>" in html
    assert "&lt;b&gt;&amp;" in html and "<b>" not in html
