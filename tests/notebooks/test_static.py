"""Checks the notebooks without running them: structure, tags, links, alt text and stored outputs."""

import ast
import io
import re
import tokenize
from itertools import pairwise
from pathlib import Path
from statistics import median

import nbformat
import pytest
from comparer import COMPARED, is_compared

from yolothreads.lessons import CLAIMS
from yolothreads.lessons.exercises import NOT_STARTED, get

FOLDER = Path(__file__).parents[2] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
PARAMETERS = ["device", "weights", "workers", "images", "quick"]


def test_notebooks_exist_and_are_numbered_consecutively():
    assert [p.name[:3] for p in PATHS] == [f"{i:02d}_" for i in range(len(PATHS))]
    assert len(PATHS) >= 6


@pytest.fixture(params=PATHS, ids=lambda p: p.stem)
def notebook(request):
    notebook = nbformat.read(request.param, as_version=4)
    nbformat.validate(notebook)
    notebook.path = request.param
    return notebook


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def tags(cell):
    return cell.metadata.get("tags", [])


def headings(notebook):
    text = "\n".join(cell.source for cell in cells(notebook, "markdown"))
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.+)$", text, flags=re.M)]


def test_it_has_one_title_in_its_first_cell_and_skips_no_heading_level(notebook):
    levels = [level for level, _ in headings(notebook)]
    assert notebook.cells[0].source.startswith("# ")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_its_first_cell_lists_content_requirements_time_and_neighbours(notebook):
    points = re.findall(r"^\* \*\*(.+?)\*\*", notebook.cells[0].source, flags=re.M)
    assert points == ["You will see", "You need", "Time", "Previous", "Next"]


def test_it_ends_with_verdict_exercise_and_take_away_without_other_sections_between(notebook):
    titles = [title for _, title in headings(notebook)]
    order = [i for i, title in enumerate(titles) if re.match("The verdict|Exercise|Take away", title)]
    assert titles[-1] == "Take away"
    assert any(title.startswith("Exercise: ") for title in titles)
    assert order == list(range(order[0], len(titles)))


def test_its_settings_are_in_one_tagged_cell_after_the_imports(notebook):
    imports, parameters, begin = cells(notebook, "code")[:3]
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(imports.source).body)
    assert tags(parameters) == ["parameters"]
    assert [node.targets[0].id for node in ast.parse(parameters.source).body] == PARAMETERS
    assert "Lesson(device, weights, workers, images, quick" in begin.source


def test_its_tags_are_known(notebook):
    assert {tag for cell in notebook.cells for tag in tags(cell)} <= {"parameters", COMPARED}


def test_its_links_have_targets(notebook):
    text = "\n".join(cell.source for cell in cells(notebook, "markdown"))
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_its_pictures_have_alt_text(notebook):
    text = "\n".join(cell.source for cell in cells(notebook, "markdown"))
    assert not re.search(r"!\[\s*\]\(", text)
    for cell in cells(notebook, "code"):
        for output in cell.outputs:
            html = "".join(output.get("data", {}).get("text/html", ""))
            assert all('alt="' in image for image in re.findall("<img[^>]*>", html))
            assert "image/png" not in output.get("data", {})


def test_outputs_are_stored_where_they_are_compared_and_stripped_elsewhere(notebook):
    compared = [cell for cell in cells(notebook, "code") if is_compared(cell)]
    assert compared
    assert all(cell.outputs and cell.execution_count for cell in compared)
    others = [cell for cell in cells(notebook, "code") if not is_compared(cell)]
    assert all(not cell.outputs and cell.execution_count is None for cell in others)
    assert "widgets" not in notebook.metadata


def test_it_imports_the_kit_from_its_public_modules_only(notebook):
    names = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for cell in cells(notebook, "code")
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    kit = {name for name in names if name.split(".")[0] == "yolothreads"}
    assert kit <= {"yolothreads", "yolothreads.lessons", "yolothreads.races"}


def test_its_code_cells_contain_no_sentences_or_comments(notebook):
    for cell in cells(notebook, "code"):
        texts = [n.value for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Constant)]
        sentences = [text for text in texts if isinstance(text, str) and len(text.split()) > 2]
        comments = [
            t.string for t in tokenize.generate_tokens(io.StringIO(cell.source).readline) if t.type == tokenize.COMMENT
        ]
        assert [*sentences, *comments] == []


def test_its_code_cells_are_short(notebook):
    lengths = [len(cell.source.splitlines()) for cell in cells(notebook, "code")]
    assert max(lengths) <= 20
    assert median(lengths) <= 8


def test_text_and_code_are_balanced(notebook):
    code, text = cells(notebook, "code"), cells(notebook, "markdown")
    assert len(text) >= 0.6 * len(code)
    words = [len(cell.source.split()) for cell in text[1:]]
    assert 20 <= median(words) <= 70


def test_it_judges_exactly_its_own_claims(notebook):
    source = "\n".join(cell.source for cell in cells(notebook, "code"))
    judged = set(re.findall(r'judge\(\s*"([\w-]+)"', source))
    assert judged == {claim.id for claim in CLAIMS.values() if notebook.path.stem in claim.notebooks}


def test_its_exercise_starts_as_not_started(notebook):
    cell = next(cell for cell in cells(notebook, "code") if "exercises.get(" in cell.source)
    exercise = get(re.search(r'exercises.get\("(\w+)"\)', cell.source)[1])
    space = {}
    preamble = "from ultralytics.utils import ThreadingLocked\n"
    definition = cell.source.split("\n\n\n")[1]
    exec(preamble + definition, space)
    assert exercise.check(space[exercise.name]).outcome == NOT_STARTED


def test_its_last_cell_ends_the_lesson(notebook):
    assert cells(notebook, "code")[-1].source.endswith("print(lesson.end())")


def test_it_contains_no_machine_specific_path(notebook):
    text = notebook.path.read_text()
    assert not re.search(r"/(home|root|Users|work|tmp)/", text)
