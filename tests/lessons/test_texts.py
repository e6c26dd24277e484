"""The sentences of the notebooks: each is used, each that is used exists, and its fields are given."""

import ast
import re
import tomllib
from pathlib import Path
from string import Formatter

import nbformat
import pytest

from yolothreads.errors import ArgumentError
from yolothreads.lessons import say, table, text, texts

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FILES = sorted(Path(texts.__file__).parent.glob("[0-9]*.toml"))
SHOWN = {"text", "say", "table"}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Texts of a notebook 99 instead of the kit's own."""
    (tmp_path / "99.toml").write_text(
        'wrong = "{bad:d} of {all:d} went wrong"\n[rates]\nheaders = ["pool", "share"]\ncaption = "After {n} trials."\n'
    )
    monkeypatch.setattr(texts, "_FOLDER", tmp_path)
    texts.sections.cache_clear()
    yield
    texts.sections.cache_clear()


def test_a_sentence_is_filled_in_and_printed(example, capsys):
    assert text("99.wrong", bad=2, all=60) == "2 of 60 went wrong"
    say("99.wrong", bad=2, all=60)
    assert capsys.readouterr().out == "2 of 60 went wrong\n"


def test_a_table_has_the_headers_and_the_caption_of_its_key(example):
    made = table("99.rates", [("Replicas", "0 %")], "cpu, 2 cores", n=60)
    assert [*made.headers] == ["pool", "share"]
    assert "After 60 trials. cpu, 2 cores" in str(made)


@pytest.mark.parametrize("rows", [[("Replicas",)], [("Replicas", "0 %"), ("Replicas", "0 %", "more")]])
def test_a_table_with_another_number_of_columns_is_an_error(example, rows):
    with pytest.raises(ArgumentError, match=r'"99\.rates" has 2 columns'):
        table("99.rates", rows, n=60)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("98.wrong", 'no texts of a notebook "98"'),
        ("99.right", 'no sentence "right"'),
        ("99.rates", 'no sentence "rates"'),
        ("99", 'no sentence ""'),
    ],
)
def test_an_unknown_key_is_an_error(example, key, message):
    with pytest.raises(ArgumentError, match=message):
        text(key)


def test_the_key_of_a_sentence_gives_no_table(example):
    with pytest.raises(ArgumentError, match='no table "wrong"'):
        table("99.wrong", [])


@pytest.mark.parametrize("fields", [{"bad": 2}, {"bad": "two", "all": 60}, {"bad": None, "all": 60}], ids=str)
def test_a_field_that_is_missing_or_of_the_wrong_type_is_an_error(example, fields):
    with pytest.raises(ArgumentError, match=r'"99\.wrong" cannot be filled in'):
        text("99.wrong", **fields)


def code_of(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def calls(code):
    """Each call of text, say and table: the function, a pattern of its key, and the names of the fields."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SHOWN:
            for key in patterns(node.args[0]):
                yield node.func.id, key, {keyword.arg for keyword in node.keywords} - {"rows", "stamp"}


def patterns(key):
    """Regular expressions of the keys that an argument can be; a field of an f-string is one group."""
    if isinstance(key, ast.IfExp):
        return patterns(key.body) + patterns(key.orelse)
    parts = key.values if isinstance(key, ast.JoinedStr) else [key]
    assert isinstance(parts[0], ast.Constant), f"{ast.unparse(key)} does not begin with the number of the notebook"
    return ["".join(re.escape(part.value) if isinstance(part, ast.Constant) else r"(\w+)" for part in parts)]


def fields_of(entry):
    sentence = entry.get("caption", "") if isinstance(entry, dict) else entry
    return {re.split(r"[.\[]", name)[0] for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def fits(entry, function, given):
    return isinstance(entry, dict) == (function == "table") and (None in given or given == fields_of(entry))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_texts_of_a_notebook_and_its_calls_match(file):
    entries = tomllib.loads(file.read_text(encoding="utf-8"))
    (notebook,) = NOTEBOOKS.glob(f"{file.stem}_*.ipynb")
    code, used = code_of(notebook), set()
    for function, pattern, given in calls(code):
        found = {name: match for name in entries if (match := re.fullmatch(pattern, f"{file.stem}.{name}"))}
        assert found, f"{pattern} is missing in {file.name}"
        fitting = {name for name in found if fits(entries[name], function, given)}
        if "(" in pattern:  # the field of an f-string can be any word of the code
            used |= {name for name in fitting if all(re.search(rf"\b{word}\b", code) for word in found[name].groups())}
        else:
            assert fitting, f"{pattern} is no {function}, or has other fields than its call"
            used |= fitting
    assert used == set(entries), f"{file.name} has texts that its notebook does not use"


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda notebook: notebook.stem)
def test_a_notebook_shows_texts_of_its_own_file_only(notebook):
    numbers = {pattern[:2] for _, pattern, _ in calls(code_of(notebook))}
    assert numbers <= {notebook.stem[:2]} & {file.stem for file in FILES}
