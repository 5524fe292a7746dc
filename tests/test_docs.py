"""Every Python block of README and docs runs; every public name has its place in the API pages and an example."""

import copy
import importlib
import re
import runpy
import warnings
from pathlib import Path

import matplotlib as mpl
import pytest
import scvi
from tiny import QUIET, tiny_model, tiny_screen

import dbdiffusion
from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
NOTEBOOKS = [page for page in PAGES if page.parent == DOCS / "notebooks" and page.name != "index.md"]
ROOMS = tuple(sorted(path.parent.name for path in Path(dbdiffusion.__file__).parent.glob("*/__init__.py")))
USER_ROOMS = ("data", "metrics", "plotting", "simulate")
BLOCK = re.compile(r"(?P<mark><!-- not run: [^\n]+ -->\n)?^```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^\s*[`~:]{3,}\s*\{?(python|py|code-cell|ipython3)\b", re.MULTILINE)
FEW = 6  # epochs, where a page leaves them to the model
BORROWED_NAMES = ("MYC", "SPI1", "JUN", "FOS")  # the first two are not perturbed


def blocks(page):
    """Code of a page, each block on the lines where it stands, so that an error names the line."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        if not found["mark"]:
            yield "\n" * text[: found.start("code")].count("\n") + found["code"]


def unsaid_blocks(page):
    """Fenced Python that the tests would pass over in silence."""
    text = page.read_text()
    return len(FENCE.findall(text)) - len(BLOCK.findall(text))


PAGES_WITH_CODE = [page for page in PAGES if any(blocks(page))]


@pytest.fixture(scope="module")
def screen_of_pages():
    """A simulated screen in which some genes have the names that the pages use."""
    screen = tiny_screen(n_genes=60, n_perturbations=16, seed=1)
    names = dict(zip(screen.uns["true_effects"].index, BORROWED_NAMES, strict=False))
    screen.var_names = [names.get(name, name) for name in screen.var_names]
    screen.obs["perturbation"] = screen.obs["perturbation"].astype(str).replace(names).astype("category")
    return hold_out(screen, list(BORROWED_NAMES[:2]))[0]


@pytest.fixture(scope="module")
def model_of_pages(screen_of_pages):
    adata = screen_of_pages.copy()
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    scvi.settings.seed = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tiny_model(adata)
        model.train(max_epochs=15, max_epochs_diffusion=15, **QUIET)
    return model


def few_epochs(train):
    def quickly(self, max_epochs=None, *arguments, **options):
        return train(self, FEW if max_epochs is None else max_epochs, *arguments, **{**QUIET, **options})

    return quickly


@pytest.fixture
def namespace(screen_of_pages, model_of_pages, tmp_path, monkeypatch):
    """What the pages take for granted: a screen, its file, a trained model, a folder, and little time."""
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    screen_of_pages.write_h5ad(tmp_path / "screen.h5ad")
    for stage in ("train_vae", "train_diffusion"):
        monkeypatch.setattr(DBDiffusion, stage, few_epochs(getattr(DBDiffusion, stage)))
    return {
        "__name__": "page",
        "adata": screen_of_pages.copy(),
        "model": copy.deepcopy(model_of_pages),
        "DBDiffusion": DBDiffusion,
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs(page, namespace):
    for code in blocks(page):
        exec(compile(code, str(page), "exec"), namespace)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT))
)
def test_no_block_is_passed_over_in_silence(page):
    assert unsaid_blocks(page) == 0


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.name)
def test_every_cell_of_a_notebook_is_run_when_the_site_is_built(page):
    text = page.read_text()
    assert text.startswith("---\nfile_format: mystnb\n")  # without it the page is text
    cells = re.findall(r"^```\{code-cell\}\n(?::tags: \[remove-cell\]\n)?(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(cells) == len(FENCE.findall(text)) > 3
    for code in cells:
        compile(code, str(page), "exec")
    conf = runpy.run_path(str(DOCS / "conf.py"))
    assert conf["nb_execution_mode"] == "force"
    assert conf["nb_execution_raise_on_error"]
    assert f"\n{page.stem}\n" in (page.parent / "index.md").read_text()


def test_readme_has_absolute_links_only():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def own_members():
    bases = [base for base in DBDiffusion.__mro__ if base.__module__.startswith("dbdiffusion")]
    return sorted({name for base in bases for name in vars(base) if not name.startswith("_")})


def public_names():
    yield from (("dbdiffusion", name) for name in dbdiffusion.__all__ if name not in USER_ROOMS)
    for room in ROOMS:
        yield from ((f"dbdiffusion.{room}", name) for name in importlib.import_module(f"dbdiffusion.{room}").__all__)


def test_every_public_name_is_in_the_api():
    text = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    lacking = [name for name in public_names() if not re.search(rf"^   ([a-z]+\.)?{name[1]}$|`{name[1]}`", text, re.MULTILINE)]
    assert lacking == [], "on no page of docs/api"


@pytest.mark.parametrize("name", own_members())
def test_every_own_member_of_the_model_is_in_the_api(name):
    assert f"   DBDiffusion.{name}\n" in (DOCS / "api" / "model.md").read_text()


def with_examples():
    yield from ((f"DBDiffusion.{name}", getattr(DBDiffusion, name)) for name in own_members())
    for module in ("dbdiffusion", *(f"dbdiffusion.{room}" for room in ROOMS)):
        room = importlib.import_module(module)
        yield from ((f"{module}.{name}", getattr(room, name)) for name in room.__all__ if callable(getattr(room, name)))


def test_every_public_name_has_an_example():
    lacking = [name for name, member in with_examples() if ">>> " not in (member.__doc__ or "")]
    assert lacking == [], "no example in their docstrings"
