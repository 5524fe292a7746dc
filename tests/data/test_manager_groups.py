import numpy as np
import pytest
from tiny import tiny_screen

from dbdiffusion import DBDiffusion, ScreenWarning
from dbdiffusion.data import CellGroups, contexts_of

pytestmark = pytest.mark.filterwarnings("ignore::dbdiffusion.ScreenWarning")


@pytest.fixture
def screen():
    adata = tiny_screen(n_perturbations=4, n_cells_per_perturbation=20)
    adata.obs["lane"] = adata.obs["batch"].astype(str)
    adata.obs["time"] = np.where(np.arange(adata.n_obs) % 2, "early", "late")
    return adata


def names_in(adata):
    return sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})


def cells_of(adata, name):
    return np.flatnonzero(adata.obs["perturbation"] == name)


def emptied(adata, rows):
    counts = adata.X.toarray()
    counts[rows] = 0
    adata.X = counts
    return adata


def groups_of(adata, **setup):
    DBDiffusion.setup_anndata(adata, **setup)
    return CellGroups(DBDiffusion._get_most_recent_anndata_manager(adata))


def test_groups_count_perturbations_contexts_and_batches(screen):
    groups = groups_of(screen, batch_key="lane", context_key="time")
    assert (groups.n_batches, groups.n_strata, groups.contexts) == (2, 4, ["early", "late"])
    assert groups.categories[groups.control_code] == "control"
    code = groups.groups
    assert np.array_equal(code // 4, groups.codes)
    assert np.array_equal(code % 4, 2 * (screen.obs["time"] == "late") + (screen.obs["lane"] == screen.obs["lane"].max()))
    assert groups.strata_of("late").tolist() == [2, 3]
    assert groups.strata_of(None).tolist() == [0, 1, 2, 3]


def test_of_a_sound_screen_all_cells_are_used_and_nothing_is_said(screen, recwarn):
    table = groups_of(screen, batch_key="lane").table()
    assert list(table.index) == names_in(screen)
    assert table["n_cells"].tolist() == [len(cells_of(screen, name)) for name in table.index]
    assert table["n_cells_used"].equals(table["n_cells"].rename("n_cells_used"))
    assert not [one for one in recwarn if issubclass(one.category, ScreenWarning)]


def test_cells_in_batches_without_control_are_counted_and_said(screen):
    one, other = names_in(screen)[:2]
    sizes = [len(cells_of(screen, name)) for name in (one, other)]
    lane = screen.obs.columns.get_loc("lane")
    screen.obs.iloc[cells_of(screen, one)[7:], lane] = "lane9"
    screen.obs.iloc[cells_of(screen, other)[-2:], lane] = "lane8"
    loss = f"'{one}' loses {sizes[0] - 7} of {sizes[0]}, '{other}' loses 2 of {sizes[1]}"
    with pytest.warns(ScreenWarning, match=f"{sizes[0] - 5} of {screen.n_obs} cells.*'lane9'.*{loss}"):
        groups = groups_of(screen, batch_key="lane")
    table = groups.table().loc[[one, other]]
    assert table["n_cells_used"].tolist() == [7, sizes[1] - 2]
    assert table["n_cells"].tolist() == sizes


def test_cells_without_counts_are_counted_and_said(screen):
    name = names_in(screen)[0]
    size = len(cells_of(screen, name))
    emptied(screen, [*cells_of(screen, name)[:6], *cells_of(screen, "control")[:3]])
    loss = f"'{name}' loses 6 of {size}, 'control' loses 3 of {len(cells_of(screen, 'control'))}"
    with pytest.warns(ScreenWarning, match=f"9 of {screen.n_obs} cells have no counts.*{loss}"):
        groups = groups_of(screen)
    assert groups.table().loc[name].tolist() == [size, size - 6]
    assert (groups.groups < 0).sum() == 9


def test_control_cells_without_counts_are_no_control(screen):
    in_lane = screen.obs["lane"] == screen.obs["lane"].min()
    emptied(screen, np.flatnonzero(in_lane & (screen.obs["perturbation"] == "control")))
    table = groups_of(screen, batch_key="lane").table()
    expected = screen.obs["perturbation"][~in_lane].value_counts()[table.index]
    assert table["n_cells_used"].tolist() == expected.tolist()


def test_with_size_factors_a_cell_without_counts_says_that_nothing_is_expressed(screen):
    screen.obs["depth"] = np.asarray(screen.X.sum(axis=1)).ravel() + 100
    emptied(screen, cells_of(screen, names_in(screen)[0])[:6])
    table = groups_of(screen, size_factor_key="depth").table()
    assert (table["n_cells_used"] == table["n_cells"]).all()


def deep(adata):
    adata.obs["depth"] = 1000.0
    return adata


def alone_in_context(adata, name):
    adata.obs["lane"] = np.where((adata.obs["perturbation"] == name) & (adata.obs["time"] == "late"), "x", "y")


def scattered(adata, name):
    """The cells of a perturbation lie in as many batches, and all others in these too."""
    own = (adata.obs["perturbation"] == name).to_numpy()
    adata.obs["lane"] = [f"L{i % own.sum()}" for i in np.where(own, np.cumsum(own), np.cumsum(~own))]


@pytest.mark.parametrize(
    ("change", "setup", "match"),
    [
        (lambda a, _: None, {"batch_key": "perturbation"}, "share no batch with control"),
        (lambda a, name: a.obs.__setitem__("lane", np.where(a.obs["perturbation"] == name, "x", "y")), {}, "share no batch"),
        (lambda a, name: emptied(a, cells_of(a, name)), {}, "has counts, so there is no effect"),
        (lambda a, _: emptied(a, cells_of(a, "control")), {}, "No cell of control"),
        (lambda a, _: emptied(a, cells_of(a, "control")[1:]), {}, "must have two cells with counts in one batch.*got 1, each"),
        (lambda a, _: scattered(a, "control"), {}, "must have two cells with counts in one batch at least"),
        (lambda a, _: deep(emptied(a, cells_of(a, "control"))), {"size_factor_key": "depth"}, "No cell of control"),
        (lambda a, _: deep(emptied(a, slice(None))), {"size_factor_key": "depth"}, "No cell of control"),
        (alone_in_context, {"context_key": "time"}, "share no batch with control 'control' in context 'late'"),
    ],
    ids=[
        "batch is the perturbation",
        "alone in its batch",
        "empty",
        "control empty",
        "one control cell",
        "one control cell a batch",
        "control empty in depth",
        "all empty",
        "alone in a context",
    ],
)
def test_what_cannot_be_contrasted_is_refused_at_set_up(screen, change, setup, match):
    change(screen, names_in(screen)[0])
    before = set(screen.obs)
    with pytest.raises(ValueError, match=match):
        DBDiffusion.setup_anndata(screen, **{"batch_key": "lane", **setup})
    assert set(screen.obs) == before


def test_contexts_of_a_registry(screen):
    DBDiffusion.setup_anndata(screen, context_key="time")
    assert contexts_of(DBDiffusion._get_most_recent_anndata_manager(screen).registry) == ["early", "late"]
    assert contexts_of({}) == []


def test_few_control_cells_are_said(screen, recwarn):
    control = cells_of(screen, "control")
    few = screen[np.setdiff1d(np.arange(screen.n_obs), control[7:])].copy()
    groups_of(few)
    said = [str(one.message) for one in recwarn if issubclass(one.category, ScreenWarning)]
    assert any(message.startswith("Only 7 cells of control 'control' take part") for message in said)
