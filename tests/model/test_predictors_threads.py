import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.model._context import ContextView
from dbdiffusion.model._predictors import lock_of, one_at_a_time
from dbdiffusion.screen import louvain_clusters

QUICK = {"n_cells": 16, "n_steps": 4}


def from_threads(ask, arguments, n_threads=2):
    with ThreadPoolExecutor(n_threads) as threads:
        return list(threads.map(ask, arguments))


def test_two_threads_get_the_cells_of_one(trained, unseen):
    def cells(target):
        return trained.generate(target, n_cells=600, n_steps=4).X.toarray()

    right = {target: cells(target) for target in unseen}
    asked = unseen * 6
    for target, found in zip(asked, from_threads(cells, asked), strict=True):
        assert np.array_equal(found, right[target])


def test_cells_do_not_come_from_the_generator_that_all_threads_share(trained, unseen):
    """A thread of someone else draws from it all the time."""
    stop, right = threading.Event(), trained.generate(unseen[0], n_cells=600, n_steps=4).X.toarray()

    def disturb():
        while not stop.is_set():
            torch.rand(10)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(3):
            assert np.array_equal(trained.generate(unseen[0], n_cells=600, n_steps=4).X.toarray(), right)
    finally:
        stop.set()
        thread.join()


def test_all_answers_of_two_threads_are_those_of_one(trained, unseen):
    asks = {
        "seed 1": lambda: trained.predict_effects(unseen, seed=1, **QUICK),
        "seed 2": lambda: trained.predict_effects(unseen, seed=2, **QUICK),
        "scores": trained.embedding_scores,
        "references": lambda: trained.reference_predictions(n_cells=16),
        "embeddings": trained.perturbation_embeddings,
    }
    right = {name: ask() for name, ask in asks.items()}
    names = list(asks) * 2
    for name, found in zip(names, from_threads(lambda name: asks[name](), names, 4), strict=True):
        loose = [column for column in found if column == "lfsr"]  # classes of thirty signs: one may pass to the next class
        assert list(found) == list(right[name])
        pd.testing.assert_frame_equal(found[loose], right[name][loose], rtol=0, atol=0.02)
        tight = [column for column in found if column not in loose]
        # float32 sums depend on how memory lies
        pd.testing.assert_frame_equal(found[tight], right[name][tight], rtol=1e-3, atol=1e-6)


def test_clusters_of_two_threads_are_those_of_one():
    vectors = [np.random.default_rng(i).standard_normal((150, 7)) for i in range(2)]
    right = [louvain_clusters(one) for one in vectors]
    for i, found in enumerate(from_threads(lambda i: louvain_clusters(vectors[i % 2]), range(20))):
        assert np.array_equal(found, right[i % 2])


def test_an_answer_waits_for_a_training_in_another_thread():
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    with ThreadPoolExecutor(2) as threads:
        training = threads.submit(model.train_diffusion, max_epochs=3, **QUIET)
        answers = [threads.submit(model.predict_effects, "GENE58", **QUICK) for _ in range(3)]
        training.result()
        tables = [answer.result() for answer in answers]
    assert all(np.isfinite(table["effect"]).all() for table in tables)
    last = model.predict_effects("GENE58", **QUICK)
    pd.testing.assert_frame_equal(tables[-1], last)


def test_every_public_method_of_this_package_is_guarded():
    for cls in (DBDiffusion, ContextView):
        methods = {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}
        own = {name for name, method in methods.items() if getattr(method, "__module__", "").startswith("dbdiffusion")}
        plain = {name for name in own if not hasattr(methods[name], "__wrapped__")}
        assert all(
            isinstance(cls.__dict__.get(name, methods[name]), classmethod | staticmethod) or name in plain for name in plain
        )
        assert {"generate", "predict_effects", "embedding_scores", "calibration"} <= own - plain
    assert DBDiffusion.train.__doc__.startswith("Train both stages")


def test_a_thread_may_ask_again_inside_of_an_answer_and_others_wait():
    order = []

    @one_at_a_time(lambda self: self.owner)
    class Asked:
        def __init__(self, owner):
            self.owner = owner

        def outer(self, started):
            started.set()
            order.append("outer begins")
            self.inner("own thread")
            order.append("outer ends")

        def inner(self, who):
            order.append(who)

        outer.__module__ = inner.__module__ = "dbdiffusion"  # others' methods are left alone

    class Owner:
        pass

    owner, started = Owner(), threading.Event()
    first, second = Asked(owner), Asked(owner)
    with lock_of(owner):
        thread = threading.Thread(target=first.outer, args=(started,))
        thread.start()
        assert not started.wait(0.1)
        second.inner("main thread")
    thread.join()
    assert order == ["main thread", "outer begins", "own thread", "outer ends"]


def test_locks_go_with_their_objects():
    from weakref import ref

    class Owner:
        pass

    owner = Owner()
    lock_of(owner)
    weak = ref(owner)
    del owner
    assert weak() is None
    with pytest.raises(TypeError):
        lock_of(3)
