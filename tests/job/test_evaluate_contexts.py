from types import SimpleNamespace

import pandas as pd

from dbdiffusion.job._evaluate import labelled, of_contexts, rows_in, stacked, views_of


def test_a_view_a_context_or_the_model_itself():
    model = SimpleNamespace(contexts=("a", "b"), in_context=str.upper)
    assert views_of(model) == {"a": "A", "b": "B"}
    plain = SimpleNamespace(contexts=())
    assert views_of(plain) == {None: plain}


def test_rows_of_a_context_or_all():
    table = pd.DataFrame({"day": pd.Categorical([2, 3, 2])})
    assert rows_in(table, "day", "2").tolist() == [True, False, True]
    assert rows_in(table, None, None).all()


def test_without_contexts_nothing_is_added():
    table = pd.DataFrame({"x": [1]})
    assert labelled(table, None) is table
    assert list(stacked({None: table}).columns) == ["x"]
    assert of_contexts({None: 7}) == 7


def test_with_contexts_each_is_named():
    tables = {name: pd.DataFrame({"x": [i]}, index=["row"]) for i, name in enumerate("ab")}
    stack = stacked(tables)
    assert list(stack.columns) == ["context", "x"]
    assert stack["context"].tolist() == ["a", "b"]
    assert stack.index.tolist() == ["row", "row"]
    assert of_contexts({"a": 1, "b": 2}) == {"a": 1, "b": 2}
