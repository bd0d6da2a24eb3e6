"""Checkpoints of the two published systems, in their own layouts and names."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hficma.artifacts.manifest import read_manifest
from hficma.engine import Bundle
from hficma.errors import ArtifactError, InputError
from hficma.export import export_run
from hficma.model import ImageConfig, load_model
from hficma.training import evaluate, extract, train
from hficma.training.convert import convert
from hficma.training.runs.run import RunDirectory
from tests.disk import largest_file

WORDS = ["</s>", "salt", "olive_oil", "flour", "eggs"]
WORD_DIM = 12


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


def resnet18() -> nn.Module:
    from hficma.model.encoders.image.image_encoder import make_image_encoder

    return make_image_encoder(ImageConfig(encoder="resnet18")).trunk


def hf_icma(rows: int) -> dict[str, Tensor]:
    """A checkpoint in HF-ICMA's names at width 256 over ResNet-18, which has 512 channels."""
    d = 256
    trunk = resnet18()
    order = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    state: dict[str, Tensor] = OrderedDict()
    for name, tensor in trunk.state_dict().items():
        part, rest = name.split(".", 1)
        state[f"visionMLP.module.{order.index(part)}.{rest}"] = tensor
    gru = nn.GRU(WORD_DIM, d, bidirectional=True)
    state |= {f"ingRNN_.rnn.{name}": tensor for name, tensor in gru.state_dict().items()}
    state["ingRNN_.embs.weight"] = torch.randn(rows, WORD_DIM)
    layers = {"visual_embedding.0": nn.Linear(2 * d, d)}
    for side in ("img", "txt"):
        layers[f"crosattn.module.{side}_key_fc"] = nn.Linear(d, d, bias=False)
        layers[f"crossgatefusion.module.{side}_key_fc"] = nn.Linear(d, d, bias=False)
    for number in range(1, 5):
        layers[f"crossgatefusion.module.mhattention.linears{number}"] = nn.Linear(d, d)
    for name in ("fc_1.0", "fc_2.0", "fc_out.0"):
        layers[f"crossgatefusion.module.{name}"] = nn.Linear(2 * d, d)
    layers["crossgatefusion.module.fc_out.3"] = nn.Linear(d, 1)
    for name, layer in layers.items():
        state |= {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}
    return state


def save_hf_icma(path: Path, state: dict[str, Tensor]) -> None:
    record = {"epoch": 5, "state_dict": state, "best_val": 1.0, "freeVision": True}
    torch.save(record, path, _use_new_zipfile_serialization=False)


def test_hf_icma(tmp_path: Path, vocabulary: Path) -> None:
    """A weight in another's place would rank by noise; the GRU's halves must not be swapped."""
    state = hf_icma(len(WORDS))
    save_hf_icma(tmp_path / "model_e005.pth.tar", state)
    result = convert(
        tmp_path / "model_e005.pth.tar", tmp_path / "run", vocabulary=vocabulary,
        backbone="resnet18",
    )  # fmt: skip
    assert (result.kind, result.words) == ("hf-icma", len(WORDS))
    model = load_model(tmp_path / "run")
    ours = model.state_dict()
    pairs = {
        "trunk.layer2.0.conv1.weight": "visionMLP.module.5.0.conv1.weight",
        "joint_embedding.linear.bias": "visual_embedding.0.bias",
        "recipe_fusion.sentence_key.weight": "crosattn.module.img_key_fc.weight",
        "cross_fusion.recipe_key.weight": "crossgatefusion.module.txt_key_fc.weight",
        "cross_fusion.attention_value.weight": "crossgatefusion.module.mhattention.linears3.weight",
        "cross_fusion.match_output.bias": "crossgatefusion.module.fc_out.3.bias",
    }
    for name, theirs in pairs.items():
        assert torch.equal(ours[name], state[theirs])
    gru = nn.GRU(WORD_DIM, 256, bidirectional=True, batch_first=True)
    gru.load_state_dict(
        {k.removeprefix("ingRNN_.rnn."): v for k, v in state.items() if ".rnn." in k}
    )
    sequence = torch.randn(1, 4, WORD_DIM)
    ahead, back = model.ingredient_gru(sequence, torch.tensor([4]))  # type: ignore[operator]
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([ahead, back], -1), gru(sequence)[0])


@pytest.mark.parametrize("keep", [True, False])
def test_off_by_two(tmp_path: Path, vocabulary: Path, keep: bool) -> None:
    """Kept, id r reads the row r that training fitted; moved, word i gets the row i."""
    state = hf_icma(len(WORDS))
    save_hf_icma(tmp_path / "model.pth.tar", state)
    convert(
        tmp_path / "model.pth.tar", tmp_path / "run", vocabulary=vocabulary,
        backbone="resnet18", keep_off_by_two=keep,
    )  # fmt: skip
    table = load_model(tmp_path / "run").state_dict()["ingredient_words.weight"]
    published = state["ingRNN_.embs.weight"]
    salt = 1 + 2  # the second word
    assert torch.equal(table[salt], published[salt if keep else 1])
    assert not table[0].any()
    assert bool(table[len(WORDS) + 1].any()) is not keep
    assert read_manifest(tmp_path / "run", kind="run").facts["keep_off_by_two"] is keep


def test_adamine(tmp_path: Path, vocabulary: Path) -> None:
    """AdaMine's names, inside its framework's `network`, with a classifier that is left out."""
    width, ingredient, sentence = 16, 10, 14
    state = {
        f"image_embedding.convnet.resnet.{name}": tensor
        for name, tensor in resnet18().state_dict().items()
    }
    layers: dict[str, nn.Module] = {
        "image_embedding.fc": nn.Linear(512, width),
        "recipe_embedding.emb_ingrs": nn.Embedding(len(WORDS), WORD_DIM),
        "recipe_embedding.rnn_ingrs": nn.LSTM(WORD_DIM, ingredient, bidirectional=True),
        "recipe_embedding.rnn_instrs": nn.LSTM(sentence, sentence),
        "recipe_embedding.fc": nn.Linear(2 * ingredient + sentence, width),
        "linear_classif": nn.Linear(width, 5),
    }
    for name, layer in layers.items():
        state |= {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}
    torch.save({"network": state}, tmp_path / "ckpt_last_model.pth.tar")
    result = convert(
        tmp_path / "ckpt_last_model.pth.tar", tmp_path / "run", vocabulary=vocabulary,
        backbone="resnet18",
    )  # fmt: skip
    assert result.kind == "adamine"
    ours = load_model(tmp_path / "run").state_dict()
    back = state["recipe_embedding.rnn_ingrs.weight_hh_l0_reverse"]
    assert torch.equal(ours["ingredient_lstm.back.weight_hh_l0"], back)
    assert torch.equal(ours["recipe_embedding.weight"], state["recipe_embedding.fc.weight"])


def test_a_full_disk_leaves_no_run_without_weights(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in the way of the next try, and the newest run for every other command."""
    checkpoint, out = tmp_path / "model_e005.pth.tar", tmp_path / "run"
    save_hf_icma(checkpoint, hf_icma(len(WORDS)))
    with pytest.raises(InputError, match="meanwhile"), largest_file(9999):
        convert(checkpoint, out, vocabulary=vocabulary, backbone="resnet18")
    save = RunDirectory.save_checkpoint

    def full(*arguments: object, **options: object) -> None:
        with largest_file(9999):  # only now: what is read before goes through a file too
            save(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(RunDirectory, "save_checkpoint", full)
    with pytest.raises(ArtifactError, match="run: cannot be written"):
        convert(checkpoint, out, vocabulary=vocabulary, backbone="resnet18")
    assert not out.exists()


def test_a_converted_run_is_told_what_to_be_measured_on(tmp_path: Path, vocabulary: Path) -> None:
    """It knows no dataset: without --data the path `None` would be looked for."""
    save_hf_icma(tmp_path / "model.pth.tar", hf_icma(len(WORDS)))
    run, out = tmp_path / "run", tmp_path / "features.safetensors"
    convert(tmp_path / "model.pth.tar", run, vocabulary=vocabulary, backbone="resnet18")
    with pytest.raises(InputError, match="name a dataset"):
        evaluate(run)
    with pytest.raises(InputError, match="name a dataset"):
        extract(run, out)
    result = evaluate(run, "sample:100")
    assert (result.dataset, result.items) == ("sample:100", result.bag_size)
    extract(run, out, data="sample:100", split="val")
    assert out.is_file()
    bundle = export_run(run, tmp_path / "bundle", runtimes=("onnxruntime",))
    assert Bundle.open(bundle).facts.dataset is None
    with pytest.raises(InputError, match="was converted"):
        train(run=run, resume=True)


def test_what_does_not_fit_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    """A weight without a place, a missing one, another vocabulary: each is named."""
    path = tmp_path / "model.pth.tar"
    state = hf_icma(len(WORDS))
    save_hf_icma(path, {**state, "unknown.weight": torch.ones(1)})
    with pytest.raises(InputError, match=r"unknown\.weight"):
        convert(path, tmp_path / "a", vocabulary=vocabulary, backbone="resnet18")
    save_hf_icma(path, {k: v for k, v in state.items() if "linears2" not in k})
    with pytest.raises(InputError, match="attention_key"):
        convert(path, tmp_path / "b", vocabulary=vocabulary, backbone="resnet18")
    save_hf_icma(path, hf_icma(len(WORDS) + 7))
    with pytest.raises(InputError, match="embeds 12 words"):
        convert(path, tmp_path / "c", vocabulary=vocabulary, backbone="resnet18")
    assert not any((tmp_path / name).exists() for name in "abc")
