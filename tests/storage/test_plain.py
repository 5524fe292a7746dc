import json
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from dbdiffusion.storage._plain import from_plain, to_plain

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda parts: st.lists(parts) | st.tuples(parts, parts) | st.dictionaries(st.text(), parts),
    max_leaves=10,
)


def there_and_back(value):
    arrays = {}
    return from_plain(json.loads(json.dumps(to_plain(value, arrays))), arrays)


@given(VALUES)
def test_nested_values_survive(value):
    assert there_and_back(value) == value


@given(arrays_of.arrays(st.sampled_from([np.float32, np.int64, np.bool_, "U5"]), arrays_of.array_shapes(min_side=0)))
def test_arrays_survive(array):
    again = there_and_back({"a": array})["a"]
    assert again.dtype.kind == array.dtype.kind
    assert again.shape == array.shape
    assert again.tolist() == array.tolist() or np.isnan(array.astype(float)).any()


def test_arrays_of_objects_and_frames_survive():
    array = np.array(["b", "a", 1, None, 2.5], dtype=object)
    assert there_and_back(array).tolist() == array.tolist()
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}, index=pd.Index([5, 7], name="epoch"))
    pd.testing.assert_frame_equal(there_and_back(frame), frame, check_dtype=False)
    pd.testing.assert_frame_equal(there_and_back(frame[["x"]]), frame[["x"]])


def test_a_defaultdict_becomes_a_dictionary():
    assert there_and_back(defaultdict(dict, {"a": {"b": np.float32(1.5)}})) == {"a": {"b": 1.5}}


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()]), {"a": [print]}])
def test_other_things_are_refused_by_path(value):
    with pytest.raises(TypeError, match="JSON"):
        to_plain(value, {})


@pytest.mark.parametrize("value", [{"a": 1, "b": 2}, {"os.system": "ls"}])
def test_what_it_did_not_write_is_refused(value):
    with pytest.raises(ValueError, match="kind of value"):
        from_plain(value, {})
