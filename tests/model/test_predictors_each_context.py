import numpy as np
import pandas as pd
import pytest

from dbdiffusion.model._predictors import asks_for_context, in_each_context


class Model:
    def __init__(self, contexts, name=None):
        self.contexts, self.name = contexts, name

    def in_context(self, name):
        return Model((), name)

    @in_each_context
    def table(self, size):
        table = pd.DataFrame({"name": [self.name] * size})
        table.attrs = {"weights": {self.name: size}}
        return table

    @asks_for_context
    def number(self):
        return 7


def test_a_table_for_every_context_or_those_named():
    table = Model(("a", "b")).table(2)
    assert table["context"].tolist() == ["a", "a", "b", "b"]
    assert table["name"].tolist() == table["context"].tolist()
    assert table.attrs["weights"] == {"a": {"a": 2}, "b": {"b": 2}}
    assert Model(("a", "b")).table(1, context="b")["name"].tolist() == ["b"]
    assert Model(("a", "b", "c")).table(1, context=["c", "a"])["name"].tolist() == ["c", "a"]


def test_what_is_said_of_a_context_is_not_said_of_all():
    class Told(Model):
        def in_context(self, name):
            return Told((), name)

        @in_each_context
        def of(self):
            table = pd.DataFrame({"target": ["A"]})
            table.attrs = {"told_apart": {"A": self.name == "a"}, "rectifier_mean": {"single": self.name}, "version": 1}
            return table

    attrs = Told(("a", "b")).of().attrs
    assert attrs["told_apart"] == {"a": {"A": True}, "b": {"A": False}}
    assert attrs["rectifier_means"] == {"a": {"single": "a"}, "b": {"single": "b"}}
    assert "rectifier_mean" not in attrs
    assert attrs["version"] == 1
    assert "single" not in attrs


def test_a_context_may_be_a_number_or_of_numpys_types():
    model = Model(("1", "2"))
    assert model.table(1, context=2)["name"].tolist() == ["2"]
    assert model.table(1, context=np.array([2, 1]))["name"].tolist() == ["2", "1"]
    assert model.table(1, context=iter(["1"]))["name"].tolist() == ["1"]
    assert model.table(1, context=np.array("1"))["name"].tolist() == ["1"]
    for odd in ([], [None], object(), np.array(None)):
        with pytest.raises(ValueError, match="`context` must be the name"):
            model.table(1, context=odd)


def test_what_can_be_read_once_is_read_for_every_context():
    class Names(Model):
        def in_context(self, name):
            return Names((), name)

        @in_each_context
        def of(self, names):
            return pd.DataFrame({"asked": list(names)})

    assert Names(("a", "b")).of(iter("xy"))["asked"].tolist() == [*"xyxy"]


def test_without_contexts_nothing_changes():
    assert list(Model(()).table(3).columns) == ["name"]
    assert Model(()).number() == 7


def test_one_context_must_be_asked():
    with pytest.raises(ValueError, match=r"in_context\('a'\).number"):
        Model(("a",)).number()
