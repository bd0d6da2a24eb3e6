"""What a manifest says of a model's options, whatever it says."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from hficma.model.config import ModelConfig

NASTY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers()),
)  # fmt: skip


@given(st.sampled_from([*ModelConfig().to_json(), "unknown"]), NASTY)
def test_options_of_a_model_are_of_their_types_or_refused(name, value):
    record = {**ModelConfig().to_json(), name: value}
    try:
        config = ModelConfig.from_json(json.loads(json.dumps(record)))
    except ValueError:
        return
    read = config.to_json()[name]
    assert type(read) is type(value) or (isinstance(read, float) and isinstance(value, int))
    assert read == value or name == "text"
    assert not isinstance(read, float) or math.isfinite(read)
