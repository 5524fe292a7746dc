import os
import signal
import threading

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.storage._files import ENDED_BY_SIGTERM, heeding_sigterm, interruptible


class BreakOff(pl.Callback):
    """Ends a training in its second epoch."""

    def __init__(self, how):
        self.how = how

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.how()


def fail():
    msg = "a callback failed"
    raise RuntimeError(msg)


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def heeding_ctrl_c():
    """A shell that starts a suite in the background has it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def model():
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=1, **QUIET)
    return model


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"callbacks": [BreakOff(fail)]}, RuntimeError),
        ({"callbacks": [BreakOff(press_ctrl_c)]}, KeyboardInterrupt),
        ({"plan_kwargs": {"lr": 1e38}}, FloatingPointError),
    ],
)
def test_stage_one_stays_usable_and_the_message_says_so(model, options, error):
    handler = signal.getsignal(signal.SIGINT)
    state = {name: value.clone() for name, value in model.module.state_dict().items() if "diffusion" not in name}
    latent, split = model.get_latent_representation(), model.train_indices.copy()
    with pytest.raises(error) as caught:
        model.train_diffusion(max_epochs=4, **options, **QUIET)
    assert "stage one is as it was" in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert signal.getsignal(signal.SIGINT) is handler
    assert all(torch.equal(value, model.module.state_dict()[name]) for name, value in state.items())
    assert np.array_equal(latent, model.get_latent_representation())
    assert np.array_equal(split, model.train_indices)
    assert not model.is_diffusion_trained_
    with pytest.raises(RuntimeError, match="train_diffusion"):
        model.generate(model.perturbation_names[0])
    model.train_diffusion(max_epochs=1, **QUIET)
    assert model.generate(model.perturbation_names[0], n_cells=2).n_obs == 2


def test_stage_two_goes_on_after_ctrl_c(model):
    with pytest.raises(KeyboardInterrupt):
        model.train_diffusion(max_epochs=4, callbacks=[BreakOff(press_ctrl_c)], **QUIET)
    linear = model.module.diffusion.linear.clone()
    model.train_diffusion(max_epochs=1, warm_start=True, **QUIET)
    assert torch.equal(linear, model.module.diffusion.linear)
    assert model.is_diffusion_trained_


def test_stage_one_broken_off_says_what_to_do():
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    with pytest.raises(KeyboardInterrupt, match="train_vae"):
        model.train(max_epochs=4, callbacks=[BreakOff(press_ctrl_c)], **QUIET)
    with pytest.raises(RuntimeError, match="Stage one"):
        model.train_diffusion(max_epochs=1)


def test_an_exit_that_is_no_ctrl_c_stays_one():
    with pytest.raises(SystemExit), interruptible("a note"):
        raise SystemExit(3)


def test_outside_the_main_thread_the_handler_is_left_alone():
    notes = []

    def broken_off():
        try:
            with interruptible("a note"):
                raise ValueError
        except ValueError as error:
            notes.extend(error.__notes__)

    thread = threading.Thread(target=broken_off)
    thread.start()
    thread.join()
    assert notes == ["a note"]


def end_by_sigterm():
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_a_block_once_and_is_itself_again():
    cleaned = []

    def work():
        with heeding_sigterm():
            try:
                end_by_sigterm()
            finally:
                end_by_sigterm()  # a second one does not disturb
                cleaned.append(True)

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == ENDED_BY_SIGTERM == 143
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_users_own_handler_of_sigterm_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    try:
        with heeding_sigterm():
            end_by_sigterm()
        assert heard == [True]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_blocks_inside_each_other_all_clean_up():
    cleaned = []

    def work(name, inner):
        with heeding_sigterm():
            try:
                inner()
            finally:
                cleaned.append(name)

    with pytest.raises(SystemExit):
        work("outer", lambda: work("inner", end_by_sigterm))
    assert cleaned == ["inner", "outer"]


class Destroyed:
    """Python lets no exception leave its end, as it lets none leave a callback of h5py."""

    def __del__(self):
        end_by_sigterm()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_nested", [False, True])
def test_an_exit_that_gets_lost_is_made_up_for(is_nested):
    done = []

    def work():
        with heeding_sigterm():
            lost = Destroyed()
            del lost
            done.append("the rest of the block")
            if is_nested:
                with heeding_sigterm():
                    done.append("the block inside")
                done.append("what comes after it")

    with pytest.raises(SystemExit) as end:
        work()
    assert end.value.code == ENDED_BY_SIGTERM
    assert done == ["the rest of the block", "the block inside"][: 1 + is_nested]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
