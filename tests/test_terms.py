"""A loss term is one row of a table, which the step, the log, the progress line, charts and model cards read."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from conftest import TINY, TINY_MODEL
from cyclegan import train
from cyclegan.config import make_config
from cyclegan.images.formats import ImageFormat
from cyclegan.publishing.publish import push
from cyclegan.step import TrainState, train_step
from cyclegan.step.cuda_graphs import make_step
from cyclegan.step.terms import PENALTIES, TERMS, Penalty, Term, loss_names
from cyclegan.storage.model import ModelInfo
from cyclegan.training.checkpoint import load_checkpoint, save_checkpoint


def make_state(**settings):
    return TrainState.create(make_config({**TINY_MODEL, "crop_size": 16, "steps": 10, **settings}, preset="paper"))


def images():
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.rand(1, 3, 16, 16, generator=draw) * 2 - 1 for _ in range(2))


def brightness_loss(real, fake):
    """How much a translation changes the mean of an image."""
    return (fake.mean() - real.mean()).abs()


def brightness(weight=2.0, loss=lambda t: brightness_loss(t.real, t.fake), **fields):
    row = {"name": "brightness", "label": "brightness", "short": "bri"} | fields
    return Term(**row, weight=lambda *_: weight, loss=loss)


def weights(state):
    networks = (state.generator, state.discriminator)
    return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()])


def test_a_row_adds_a_term_to_the_step(monkeypatch):
    without = make_state()
    plain = train_step(without, *images())
    monkeypatch.setitem(TERMS, "brightness", brightness())
    state = make_state()
    fakes = [state.generator.a2b(images()[0]).detach(), state.generator.b2a(images()[1]).detach()]
    losses = train_step(state, *images())
    added = losses.keys() - plain.keys()
    assert added == {"brightness_a2b", "brightness_b2a"}
    assert list(losses) == loss_names(state.config)
    for name, real, fake in zip(sorted(added), images(), fakes, strict=True):
        torch.testing.assert_close(losses[name], 2.0 * brightness_loss(real, fake), rtol=1e-4, atol=1e-6)
    assert {name: losses[name] for name in plain} == plain  # the same networks, before their update
    assert not torch.equal(weights(state), weights(without))


def test_a_row_of_weight_0_costs_nothing(monkeypatch):
    def fails(_):
        raise AssertionError

    plain = make_state()
    expected = train_step(plain, *images())
    monkeypatch.setitem(TERMS, "brightness", brightness(0.0, fails, needs=("features", "cycled", "identity", "score")))
    state = make_state(identity_weight=0.5)
    assert state.heads is None
    assert train_step(state, *images()) == expected
    assert torch.equal(weights(state), weights(plain))


def count_calls(state):
    """How often each of the two generators and discriminators is called in a step, by name."""
    calls = {}
    for owner in ("generator", "discriminator"):
        for name, network in getattr(state.execution, owner).network.named_children():
            key = f"{owner} {name}"
            calls[key] = 0

            def count(*_, key=key):
                calls[key] += 1

            network.register_forward_hook(count)
    train_step(state, *images())
    return calls


@pytest.mark.parametrize("needs", [(), ("cycled",), ("identity",), ("score",), ("features",)])
def test_only_what_an_active_term_needs_is_computed(monkeypatch, needs):
    for name, term in TERMS.items():
        monkeypatch.setitem(TERMS, name, dataclasses.replace(term, weight=lambda *_: 0.0))
    monkeypatch.setitem(TERMS, "brightness", brightness(needs=needs))
    state = make_state(norm="batch")  # with which images are not joined to one call
    calls = count_calls(state)
    assert (state.heads is not None) == (needs == ("features",))
    # The fakes; each generator is called again for a way back or for an image of its target domain.
    expected = 2 if needs in (("cycled",), ("identity",)) else 1
    if needs == ("features",):  # taken from the networks' `features`
        expected = 0
    assert {calls["generator a2b"], calls["generator b2a"]} == {expected}
    # Once for the generator; twice for the real image and the fake.
    assert {calls["discriminator a"], calls["discriminator b"]} == {3 if needs == ("score",) else 0}


def test_a_term_that_reads_what_its_row_does_not_list_says_so(monkeypatch):
    monkeypatch.setitem(TERMS, "brightness", brightness(loss=lambda t: t.cycled.mean()))
    state = make_state(cycle_weight=0.0)
    with pytest.raises(LookupError, match=r"add needs=\('cycled',\)"):
        train_step(state, *images())


@pytest.mark.parametrize(
    ("per", "names"),
    [
        ("direction", {"x_a2b": "A to B", "x_b2a": "B to A"}),
        ("round trip", {"x_a": "A to B to A", "x_b": "B to A to B"}),
        ("target domain", {"x_a": "A", "x_b": "B"}),
    ],
)
def test_names_end_with_the_direction_or_the_domain(per, names):
    assert brightness(name="x", per=per).names == names


def test_the_identity_loss_follows_the_cycle_weight_of_its_domain():
    config = make_config({"cycle_weight_a": 3.0, "cycle_weight_b": 5.0, "identity_weight": 0.5}, preset="paper")
    term = TERMS["identity"]
    assert term.name_in("b2a") == "identity_a"  # F(a) against a
    assert term.weight_in(config, "b2a") == 0.5 * 3.0
    assert term.set_weights(config) == {"A": 0.5, "B": 0.5}
    assert term.full_label(config) == "identity (relative to the cycle weights)"


def test_a_run_logs_shows_charts_and_publishes_the_term_of_a_row(monkeypatch, folders, tmp_path, capfd):
    monkeypatch.setitem(TERMS, "brightness", brightness())
    run = train(*folders, out=tmp_path / "run", **{**TINY, "steps": 2, "log_steps": 1, "preset": "paper"})
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "cycle_a" in line]
    assert len(losses) == 2
    assert all(line["brightness_a2b"] > 0 and line["brightness_b2a"] > 0 for line in losses)
    assert "Brightness losses" in (run / "report.html").read_text()
    shown = capfd.readouterr().err
    weights = "cycle weight 10, identity weight 0.5 (relative to the cycle weights), brightness weight 2;"
    assert f"Preset paper: adversarial weight 1 (lsgan), {weights}" in " ".join(shown.split())
    push(run, "user/bright", dry_run=tmp_path / "card")
    card = (tmp_path / "card" / "README.md").read_text()
    assert "| identity (relative to the cycle weights) | 0.5 |" in card
    assert "| brightness | 2 |" in card


def test_a_penalty_on_the_discriminators_is_a_row_too(monkeypatch):
    plain = train_step(make_state(), *images())
    penalty = Penalty(label="drift", weight=lambda _: 2.0, loss=lambda d: d.discriminator(d.real).square().mean())
    monkeypatch.setitem(PENALTIES, "drift", penalty)
    state = make_state()
    drift = state.discriminator.a(images()[0]).square().mean().detach()
    losses = train_step(state, *images())
    torch.testing.assert_close(losses["discriminator_a"], plain["discriminator_a"] + 0.5 * 2.0 * drift)

    state.device = torch.device("cuda")  # nothing is computed there
    assert make_step(state) is not train_step
    monkeypatch.setitem(PENALTIES, "drift", dataclasses.replace(penalty, every=4))
    assert make_step(state) is train_step


# ---- the state


def same(one, other):
    """Whether two values of a field of TrainState are equal; a type that is not known here fails."""
    if isinstance(one, nn.Module):
        one, other = one.state_dict(), other.state_dict()
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, torch.optim.Optimizer):
        moments, others = (optimizer.state_dict()["state"][0] for optimizer in (one, other))
        return moments.keys() == others.keys() and all(torch.equal(moments[name], others[name]) for name in moments)
    if hasattr(one, "images"):
        alike = len(one.images) == len(other.images) > 0 and all(map(torch.equal, one.images, other.images))
        return alike and len(one.masks) == len(other.masks) > 0 and all(map(torch.equal, one.masks, other.masks))
    if hasattr(one, "get_scale"):
        return one.state_dict() == other.state_dict()
    assert isinstance(one, int | set | torch.device | type(make_config())), type(one)
    return one == other


def test_a_checkpoint_holds_every_field_of_a_state(tmp_path):
    settings = {"contrastive_weight": 1.0, "precision": "fp16", "discriminator_norm": "spectral", "pool_size": 2}
    state = make_state(**settings)
    fresh = {field.name for field in dataclasses.fields(state)} - {"config", "device"}
    masks = {f"mask_{domain}": (image[:, :1] > 0).float() for domain, image in zip("ab", images(), strict=True)}
    for _ in range(3):
        train_step(state, *images(), **masks)
    state.scaler.update(32.0)
    about = {"preprocess": "none", "load_size": 16, "crop_size": 16, "step": state.step, "translate_with": "final"}
    info = ModelInfo(cyclegan_version="0", model=state.config.model, a=ImageFormat(), b=ImageFormat(), **about)
    checkpoint = save_checkpoint(tmp_path, info, state, seconds=1.0, keep=1)

    other = make_state(**settings)
    for name in fresh - {"pool_a", "pool_b", "generator_optimizer", "discriminator_optimizer", "head_optimizer"}:
        assert not same(getattr(state, name), getattr(other, name)), name
    load_checkpoint(checkpoint, other)
    for field in dataclasses.fields(state):
        assert same(getattr(state, field.name), getattr(other, field.name)), field.name
