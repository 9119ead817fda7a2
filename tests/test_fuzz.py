"""Every seed and every input that once broke something, through the targets; and what runs the fuzzer."""

import json
from pathlib import Path

import pytest

from exporter.cohere.wire import Page
from exporter.model import FinetunedModel
from tools.fuzz.__main__ import main
from tools.fuzz.mutation import mutated
from tools.fuzz.targets import CORPUS, JSON_TARGETS, SECRET, TARGETS, models

pytestmark = pytest.mark.slow

INPUTS = [path for target in TARGETS for path in sorted((CORPUS / target).iterdir())]
MODEL = {"id": "m", "name": "n", "settings": {"wandb": {"api_key": SECRET}}}


def same(data: bytes, _size: int) -> bytes:
    return data


def test_every_target_has_seeds_and_every_folder_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {path.parent.name for path in INPUTS} == set(TARGETS)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_kept_breaks_nothing(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", JSON_TARGETS)
def test_what_is_made_of_a_seed_breaks_nothing(target: str) -> None:
    """A little of what the fuzzer does, where there is none; the same at each run."""
    for path in sorted((CORPUS / target).iterdir()):
        data = path.read_bytes()
        for seed in range(60):
            data = mutated(data, 4096, seed, bytewise=same)
            TARGETS[target](data)


def test_a_change_is_one_of_json_and_the_same_each_time() -> None:
    seed = (CORPUS / "models" / "usual.json").read_bytes()
    changed = [mutated(seed, 4096, number, bytewise=same) for number in range(100)]
    assert changed == [mutated(seed, 4096, number, bytewise=same) for number in range(100)]
    assert len(set(changed)) > 30  # half are left to the fuzzer
    for data in changed:
        json.loads(data)


@pytest.mark.parametrize(
    "broken",
    [
        {"id": ""},
        {"id": "\ud800"},
        {"name": "n" * 1025},
        {"created_at": -1.0},
        {"updated_at": float("inf")},
        {"hyperparameters": {"api_key": 1.0}},
        {"hyperparameters": {"lora_rank": float("nan") + 0}},
        {"wandb_project": SECRET},
    ],
    ids=str,
)
def test_a_reader_that_lets_more_through_falls(
    broken: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(body: bytes, _reject: object) -> Page[FinetunedModel]:
        given = json.loads(body)["finetuned_models"][0]
        secret = given["settings"]["wandb"]["api_key"]
        fields = {name: secret if value == SECRET else value for name, value in broken.items()}
        return Page([FinetunedModel(**{"id": "m", **fields})], "")  # type: ignore[arg-type]

    monkeypatch.setattr("tools.fuzz.targets.read_models", careless)
    with pytest.raises((AssertionError, UnicodeEncodeError)):
        models(json.dumps({"finetuned_models": [MODEL]}).encode())


def test_a_reader_that_raises_anything_else_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(_body: bytes, _reject: object) -> None:
        raise ValueError("nobody foresaw it")

    monkeypatch.setattr("tools.fuzz.targets.read_models", raising)
    with pytest.raises(ValueError, match="foresaw"):
        models(b"{}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no such target: nothing; there are models, steps, answers, web_config, requests"),
        (["--seconds=0"], "--seconds must be at least 1"),
        (["models"], "atheris is not installed: `make fuzz` does it (Linux on x86-64, Python up to 3.13)"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.fuzz.__main__.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.splitlines()[-1] == f"python -m tools.fuzz: error: {said}"
