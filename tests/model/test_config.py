"""What a manifest says of a model's options, whatever it says."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from hficma.images.image_input import ImageInput
from hficma.model.config import ImageConfig, ModelConfig

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


def test_an_image_encoder_that_is_but_a_name_keeps_the_key_of_earlier_releases() -> None:
    """`model_id` hashes the options: another key would part every old index from its model."""
    record = ModelConfig(image=ImageConfig(encoder="mobilenet_v2")).to_json()
    assert record["backbone"] == "mobilenet_v2"
    assert not record.keys() & {"image", "global_text"}


def test_an_image_encoder_of_a_folder_survives_json() -> None:
    """A run must not need the folder that its encoder came from."""
    config = ModelConfig(
        kind="dual", global_text="fields", global_dim=8,
        image=ImageConfig(
            encoder="vit", family="transformers", architecture="{}", grid=7,
            input=ImageInput(size=256),
        ),
    )  # fmt: skip
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
