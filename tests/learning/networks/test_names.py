"""Names without torch: the same as the libraries have, and nothing that a library would fetch or read elsewhere."""

from pathlib import Path

import pytest

from severstal_cli.errors import InputError, MachineError, UsageError
from severstal_cli.learning.networks import names, registry


def test_networks_are_those_of_the_registry() -> None:
    assert names.networks() == {name: entry.has_encoder for name, entry in registry.REGISTRY.items()}
    assert list(names.networks()) == list(registry.REGISTRY)


def test_encoders_and_their_weights_are_those_of_the_library() -> None:
    from segmentation_models_pytorch.encoders import encoders

    assert {name: set(weights) for name, weights in names.ENCODERS.items()} == {
        name: set(entry["pretrained_settings"]) for name, entry in encoders.items()
    }


def test_every_model_of_timm_is_known_by_its_source() -> None:
    import timm
    from timm.models import _registry

    def is_known(model: str) -> bool:
        try:
            names.check_encoder(f"tu-{model}")
        except UsageError:
            return False
        return True

    models = (*timm.list_models(), *_registry._model_entrypoints, *timm.list_models(pretrained=True)[:200])
    assert [model for model in models if not is_known(model)] == []


@pytest.mark.parametrize(
    ("encoder", "line"),
    [
        ("resnet19", "unknown encoder: resnet19. Did you mean resnet18?"),
        ("nonsense", "unknown encoder: nonsense. For example resnet18, resnet34, efficientnet-b3, se_resnext50_32x4d, "
                     "tu-convnext_tiny"),
        ("convnext_tiny", "unknown encoder: convnext_tiny. Its name is tu-convnext_tiny"),
        ("timm-resnest14d", "unknown encoder: timm-resnest14d. Its name is tu-resnest14d"),
        ("timm-regnetx_002", "unknown encoder: timm-regnetx_002. Its name is tu-regnetx_002"),
        ("timm-gernet_s", "unknown encoder: timm-gernet_s. Its name is tu-gernet_s"),
        ("timm-res2net50_26w_4s", "unknown encoder: timm-res2net50_26w_4s. Its name is tu-res2net50_26w_4s"),
        ("timm-mobilenetv3_large_100", "unknown encoder: timm-mobilenetv3_large_100. Its name is "
                                       "tu-tf_mobilenetv3_large_100"),
        ("tu-convnext_tinny", "unknown encoder: tu-convnext_tinny. Did you mean tu-convnext_tiny? After tu- give the "
                              "name of a timm model"),
        *((f"tu-{name}", f"not the name of an encoder: tu-{name}. After tu- give the name of a timm model alone, "
                         "e.g. tu-convnext_tiny")
          for name in ("hf-hub:x/y", "hf_hub:x/y", "local-dir:/models", "../resnet18", "resnet18@main", "a/b",
                       "ｒesnet18", "resnet18.a.b")),
    ],
)  # fmt: skip
def test_an_encoder_that_is_none_is_told(encoder: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        names.check_encoder(encoder)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("encoder", "weights", "line"),
    [
        ("resnet34", "ssl", "resnet34 has no weights of this name: ssl. Pass --encoder-weights imagenet, none or a "
                            "file"),
        ("resnext101_32x16d", "imagenet", "resnext101_32x16d has no weights of this name: imagenet. Pass "
                                          "--encoder-weights instagram, ssl, swsl, none or a file"),
        ("tu-resnet18", "noisy-student", "tu-resnet18 has no weights of this name: noisy-student. For timm they "
                                         "are part of the name: --encoder tu-resnet18.fb_ssl_yfcc100m_ft_in1k "
                                         "--encoder-weights imagenet"),
        ("resnet18", "imagnet", "no such file of encoder weights: imagnet. Did you mean imagenet? Give a file, or "
                                "imagenet, ssl, swsl, or none"),
    ],
)  # fmt: skip
def test_weights_that_an_encoder_has_not_are_told(encoder: str, weights: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        names.check_weights(encoder, weights)
    assert str(caught.value) == line
    with pytest.raises(InputError) as caught:
        registry.build("unet", encoder=encoder, encoder_weights=weights, classes=2)
    assert str(caught.value) == line


@pytest.mark.filterwarnings("ignore:.timm-. encoders are deprecated")
@pytest.mark.parametrize(
    ("encoder", "weights"),
    [("resnet18", "ssl"), ("timm-efficientnet-b0", "noisy-student"), ("efficientnet-b0", "advprop")],
)
def test_named_weights_are_those_of_the_library_and_no_file(
    encoder: str, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are fetched by the library's own way, from the place that it names."""
    asked = []

    def fetch(repository: str, **_: object) -> str:
        asked.append(repository)
        raise OSError("no network")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", fetch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError) as caught:
        registry.build("unet", encoder=encoder, encoder_weights=weights, classes=2, encoders=tmp_path)
    assert f"the {weights} weights of {encoder} could not be fetched" in str(caught.value)
    assert len(asked) == 1
    assert weights in asked[0]
