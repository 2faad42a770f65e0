"""The documentation says what the code does: commands, defaults, links, names of errors."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import mashup
from mashup.cli.options import build
from verbs import VERBS, flags_of, options_of

ROOT = Path(__file__).parents[1]
SOURCE = Path(mashup.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|tmp|work|Users|mnt|opt|var|data)/|[A-Z]:\\")


def blocks(page, *languages):
    return [body for kind, body in FENCE.findall(page.read_text()) if kind in languages]


def commands():
    """Page and arguments of every ``mashup ...`` line in a fenced block."""
    for page in PAGES:
        for body in blocks(page, "bash", "sh", "console", "text", ""):
            for line in body.replace("\\\n", " ").splitlines():
                if line.startswith("mashup ") and "--help" not in line:
                    yield page, shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize(
    ("page", "arguments"),
    list(commands()),
    ids=lambda value: value.name if isinstance(value, Path) else " ".join(value)[:60],
)
def test_every_command_is_one_that_the_command_line_takes(page, arguments):
    verb, *rest = arguments
    given = VERBS[verb].make_context(verb, rest).params
    aliases = {key: field.alias or key for key, field in options_of(verb).model_fields.items()}
    values = {aliases[k]: v for k, v in given.items() if v not in (None, [], ()) and k in aliases}
    if not given["config"]:
        build(options_of(verb), values, page.name)


def test_every_verb_stands_in_the_documentation():
    assert {arguments[0] for _, arguments in commands()} >= VERBS.keys() - {"demo"}


def shown(field):
    """A default as the tables of the documentation have it."""
    if field.is_required():
        return "required"
    if field.default is None or field.default == ():
        return "–"
    if isinstance(field.default, tuple):
        return " ".join(v if isinstance(v, str) else f"{v:g}" for v in field.default)
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return f"{field.default:g}" if isinstance(field.default, int | float) else field.default


def flag_rows():
    for page in PAGES:
        if page.stem in VERBS:
            rows = re.findall(r"^\| `--([\w-]+)`[^|]*\| ([^|]+) \|", page.read_text(), re.MULTILINE)
            yield from ((page.stem, flag, default) for flag, default in rows)


@pytest.mark.parametrize(("verb", "flag", "default"), list(flag_rows()))
def test_a_flag_in_a_table_exists_and_has_this_default(verb, flag, default):
    assert default == shown(flags_of(verb)[flag.replace("-", "_")])


def test_the_page_of_experiments_has_a_file_that_is_taken_and_names_every_setting(tmp_path):
    from mashup.experiment.settings import Choosing, Merging, TaskData, read_experiment

    page = ROOT / "docs/loo.md"
    (tmp_path / "experiment.yaml").write_text(blocks(page, "yaml")[0])
    experiment = read_experiment(tmp_path / "experiment.yaml")
    models = (type(experiment), TaskData, Choosing, Merging)
    names = {name for model in models for name in model.model_fields}
    assert {name for name in names if name not in page.read_text()} == set()


def anchors(page):
    """Anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_path_of_somebodys_machine(page):
    assert not MACHINE_PATH.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_documentation_uses_public_names(page):
    for body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "mashup":
                assert node.attr in mashup.__all__


def problems_in_the_source():
    """The ``what`` of every Problem that is written out in the source."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem"
            if called and node.args and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def test_every_problem_has_a_row_in_the_table_of_errors_and_no_row_is_made_up():
    page = (ROOT / "docs/errors.md").read_text()
    table = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(table) == len(set(table))
    assert set(table) >= set(problems_in_the_source())
    source = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    assert [what for what in table if f'"{what}"' not in source] == []


def test_the_table_of_records_is_what_mashup_tasks_lists():
    from mashup.task import known_records

    page = (ROOT / "docs/data.md").read_text()
    for record in known_records():
        where = f"{record.hub}:{record.config}" if record.config else record.hub
        assert f"| {record.name} | `{where}` | {', '.join(record.columns)} |" in page


@pytest.mark.parametrize("page", sorted(SOURCE.rglob("README.md")), ids=lambda p: p.parent.name)
def test_a_picture_of_a_folder_names_files_that_are_there(page):
    for name in set(re.findall(r"[\w/]+\.py\b|\b\w+/(?=\s)", page.read_text())):
        assert (page.parent / name).exists() or (SOURCE.parent / name).exists(), name
    defined = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    for name in set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)*(?=  )", page.read_text())):
        assert re.search(rf"^class {name}\b", defined, re.MULTILINE), name


def test_the_reference_of_python_has_every_public_name():
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: mashup\.(?:.*\.)?(\w+)$", text, re.MULTILINE)
    assert sorted(named) == sorted(mashup.__all__)
