import numpy as np
import pytest

from dbdiffusion import DBDiffusion
from dbdiffusion.storage._weights import ATTRIBUTES, check_arguments, check_attributes, check_sizes

FEWEST = {"init_params_": {}, "registry_": {}}


@pytest.fixture
def declared(trained):
    state = {name: value.numpy() for name, value in trained.module.state_dict().items()}
    return trained.init_params_, state, trained.registry_


def test_every_attribute_that_a_model_saves_is_known(trained):
    named = {name for name, _ in trained._get_user_attributes() if name.endswith("_")}
    assert named <= set(ATTRIBUTES)
    check_attributes({name: getattr(trained, name) for name in named}, "here")


@pytest.mark.parametrize(
    "foreign", ["predict_effects", "module", "__class__", "adata", "_space", "id", "is_trained", "summary_stats"]
)
def test_foreign_attributes_are_refused(foreign):
    with pytest.raises(ValueError, match="no attributes of a saved model"):
        check_attributes({**FEWEST, foreign: "x"}, "model.json")


@pytest.mark.parametrize(
    "changed",
    [
        {"history_": "x"},
        {"is_trained_": 1},
        {"screen_": []},
        {"get_normalized_function_name_": "export_weights"},
        {"registry_": None},
    ],
)
def test_attributes_of_other_types_are_refused(changed):
    with pytest.raises(ValueError, match="no saved model has there"):
        check_attributes({**FEWEST, **changed}, "model.json")


@pytest.mark.parametrize("attributes", [None, [], {}, {"registry_": {}}])
def test_attributes_that_are_missing_are_named(attributes):
    with pytest.raises(ValueError, match="init_params_"):
        check_attributes(attributes, "model.json")


def changed(saved, **arguments):
    return {**saved, "non_kwargs": {**saved["non_kwargs"], **arguments}}


def test_the_constructors_arguments_are_taken_as_they_were(declared):
    saved, state, registry = declared
    arguments = check_arguments(DBDiffusion, saved, state, "model.json")
    assert arguments == saved["non_kwargs"]
    check_sizes(DBDiffusion, registry, arguments, state, "model.json")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_hidden": 10**12}, "n_hidden"),
        ({"n_folds": 10**5}, "n_folds"),
        ({"n_layers": 10**5}, "n_layers"),
        ({"n_latent": -(10**9)}, "n_latent"),
        ({"os": "x"}, "no arguments"),
        ({"adata": "x"}, "no arguments"),
    ],
)
def test_absurd_arguments_are_refused_before_anything_is_allocated(declared, arguments, match):
    saved, state, _ = declared
    with pytest.raises(ValueError, match=match):
        check_arguments(DBDiffusion, changed(saved, **arguments), state, "model.json")


@pytest.mark.parametrize("saved", [None, {}, {"non_kwargs": {}}, {"non_kwargs": [], "kwargs": {}}])
def test_arguments_of_another_form_are_refused(saved):
    with pytest.raises(ValueError, match="constructor"):
        check_arguments(DBDiffusion, saved, {}, "model.json")


def test_sizes_that_are_not_those_of_the_weights_are_refused(declared):
    saved, state, registry = declared
    arguments = check_arguments(DBDiffusion, saved, state, "model.json")
    for wrong in ({"n_hidden": 17}, {"n_layers": 2}, {"n_hidden": "x"}, {"n_latent": 0}):
        with pytest.raises(ValueError, match=r"model\.json declares"):
            check_sizes(DBDiffusion, registry, {**arguments, **wrong}, state, "model.json")
    fewer = dict(list(state.items())[1:])
    with pytest.raises(ValueError, match="two models"):
        check_sizes(DBDiffusion, registry, arguments, fewer, "model.json")
    with pytest.raises(ValueError, match="no model that can be built"):
        check_sizes(DBDiffusion, {}, arguments, {"a": np.zeros(2)}, "model.json")
