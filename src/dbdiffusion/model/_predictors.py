"""Predictors of a model, of the whole screen and of each context: made when they are asked for, forgotten in one place."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from scvi import settings
from scvi.utils import track

from dbdiffusion._keys import OF_A_CONTEXT, REGISTRY
from dbdiffusion._words import known_word, say, word
from dbdiffusion.data import PerturbationField, contexts_of, vectors_from_state
from dbdiffusion.embedding import ALL_STRATEGIES, LeftOutSpaces, fit_effect_space, fit_space, one_gene_space
from dbdiffusion.model._module import VAEDecoder
from dbdiffusion.model._screen import genes_of
from dbdiffusion.predict import Conditions, Generator, OwnTable, Predictor, Retrained
from dbdiffusion.screen import GeneSpace, NameRule, Screen, unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scvi.model import SCVI as _Base
    from torch import Tensor

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.embedding import EffectSpace, PerturbationSpace
    from dbdiffusion.screen import LeftOut
else:
    _Base = object


# Answers of one model, one at a time: a second thread waits, whatever the first is asked or trains.


_Class = TypeVar("_Class", bound=type)
_locks: WeakKeyDictionary[Any, Any] = (
    WeakKeyDictionary()
)  # beside the models, which are copied and pickled, and locks cannot be
_making = threading.Lock()


def one_at_a_time(whose: Callable[[Any], Any]) -> Callable[[_Class], _Class]:
    """Guard all public methods of a class that this package defines by the lock of one object.

    Parameters
    ----------
    whose
        Of an instance to the object; instances that share it wait for each other.

    Examples
    --------
    >>> @one_at_a_time(lambda self: self)
    ... class Counter:
    ...     def count(self) -> int:
    ...         return 1
    >>> Counter().count()
    1
    """

    def guard_all(cls: _Class) -> _Class:
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            if not name.startswith("_") and isinstance(method, FunctionType) and _is_own(method):
                setattr(cls, name, _guarded(method, whose))
        return cls

    return guard_all


def lock_of(owner: Any) -> Any:
    """The lock of an object; the same thread may take it again.

    Examples
    --------
    >>> class Model: ...
    >>> model = Model()
    >>> lock_of(model) is lock_of(model), lock_of(model) is lock_of(Model())
    (True, False)
    """
    with _making:
        return _locks.setdefault(owner, threading.RLock())


def _is_own(method: FunctionType) -> bool:
    return method.__module__.split(".")[0] == __name__.split(".")[0]


def _guarded(method: FunctionType, whose: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def answer(self: Any, *args: Any, **options: Any) -> Any:
        with lock_of(whose(self)):
            return method(self, *args, **options)

    return answer


# Methods of a model that has contexts: answer for each, or ask for one.


def in_each_context(method: Any) -> Any:
    """Let a method that returns a table answer for every context, or those named, with a column ``context``.

    Parameters
    ----------
    method
        Has a keyword ``context``, which models without contexts refuse.
    """

    @functools.wraps(method)
    def answer(self: Any, *args: Any, context: str | list[str] | None = None, **options: Any) -> pd.DataFrame:
        if context is None and not self.contexts:
            return method(self, *args, **options)
        args = tuple(list(value) if isinstance(value, Iterator) else value for value in args)  # a generator gives names once
        options = {name: list(value) if isinstance(value, Iterator) else value for name, value in options.items()}
        names = self.contexts if context is None else _context_names(context)
        tables = [method(self.in_context(name), *args, **options).assign(context=name) for name in names]
        table = pd.concat(tables, ignore_index=True)
        of_each = {
            of_all: {name: one.attrs.get(said, {}) for name, one in zip(names, tables, strict=True)}
            for said, of_all in OF_A_CONTEXT.items()
            if said == "weights" or any(said in one.attrs for one in tables)
        }
        of_all = {said: value for said, value in tables[0].attrs.items() if said not in OF_A_CONTEXT}
        table.attrs = {**of_all, "context": list(names), **of_each}
        return table

    return answer


def context_name(context: Any) -> Any:
    """The name of a context: plain text, also of a number, as a time may be.

    Examples
    --------
    >>> import numpy as np
    >>> context_name(np.int64(3)), context_name(np.str_("late"))
    ('3', 'late')
    """
    context = unwrapped(context)
    return str(context) if isinstance(context, str | int | float | np.generic) else context


def _context_names(context: Any) -> list[str]:
    context = context_name(context)
    names = [context] if isinstance(context, str) else list(context) if isinstance(context, Iterable) else []
    names = [context_name(name) for name in names]
    if not names or not all(isinstance(name, str) for name in names):
        msg = f"`context` must be the name of a context or a list of names, at least one, got {context!r}."
        raise ValueError(msg)
    return names


def asks_for_context(method: Any) -> Any:
    """Let a method that has no answer for several contexts at once say how to ask one."""

    @functools.wraps(method)
    def answer(self: Any, *args: Any, **options: Any) -> Any:
        if self.contexts:
            msg = (
                f"This model has contexts, {list(self.contexts[:10])}, and `{method.__name__}` answers for one at a time: "
                f"`model.in_context({self.contexts[0]!r}).{method.__name__}(...)`."
            )
            raise ValueError(msg)
        return method(self, *args, **options)

    return answer


# Progress bars of scvi-tools on what takes longer than three seconds, one at a time.


QUIET_FROM = 30  # logging.WARNING: `scvi.settings.verbosity` at which nothing is said of progress
SECONDS = 3.0  # before a bar appears
_here = threading.local()


def progress(description: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """Of steps to the same steps, with a bar for those that are left after three seconds.

    There is none inside of another one, nor where ``scvi.settings.verbosity`` is that of warnings or above.

    Examples
    --------
    >>> list(progress("Counting")([1, 2, 3]))
    [1, 2, 3]
    """

    def tracked(steps: Sequence[Any]) -> Iterable[Any]:
        if len(steps) < 2 or int(settings.verbosity) >= QUIET_FROM or getattr(_here, "is_tracking", False):
            return steps
        return _after_a_while(steps, description)

    return tracked


def _after_a_while(steps: Sequence[Any], description: str) -> Iterator[Any]:
    start, _here.is_tracking = time.monotonic(), True
    try:
        for i, step in enumerate(steps):
            if time.monotonic() - start > SECONDS:
                yield from track(steps[i:], description=description)
                return
            yield step
    finally:
        _here.is_tracking = False


class PredictorsMixin(_Base):
    """``predictor`` and what it is made of."""

    _predictors: dict[str | None, Predictor]
    _revision: int
    cross_fit_: dict | None
    own_predictors_: dict[str, Any] | None
    context_screens_: dict[str, dict] | None

    if TYPE_CHECKING:

        def _screen(self) -> Screen: ...
        def _require_diffusion(self) -> None: ...

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the contexts; none without a ``context_key``.

        Examples
        --------
        >>> model.contexts
        ()
        """
        return tuple(contexts_of(self.registry_))

    @property
    def strategy(self) -> str:
        """How unseen perturbations are placed: ``"auto"`` or one of the strategies; see :meth:`set_strategy`.

        Examples
        --------
        >>> model.strategy
        'auto'
        """
        return getattr(self, "strategy_", "auto")

    def set_strategy(self, strategy: str) -> None:
        """Choose how unseen perturbations are placed.

        Parameters
        ----------
        strategy
            ``"auto"`` (the least leave-one-out error, see :meth:`embedding_scores`), ``"cluster"`` (the paper's),
            ``"knn"``, ``"ridge"``, ``"mean"``, or, with vectors of your own, ``"table"`` and ``"table_knn"``.

        Raises
        ------
        ValueError
            For another word.

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> copied.set_strategy("knn")
        >>> copied.strategy_of(unseen[0])
        'knn'
        """
        self.strategy_ = word("strategy", strategy, tuple(sorted(("auto", *ALL_STRATEGIES))))
        self._forget_predictors()  # the folds were placed by another strategy

    def _name_rule(self) -> NameRule:
        state = self.registry_["field_registries"][REGISTRY.PERTURBATION]["state_registry"]
        genes = pd.Index(genes_of(self.registry_))
        return NameRule(state[PerturbationField.CONTROL], state[PerturbationField.SEPARATOR], genes)

    def _canonical(self, names: Sequence[str]) -> list[str]:
        """The one name of each perturbation: as it is registered, else without control and repeats, as it is written first."""
        names = [names] if isinstance(names, str) else list(names)
        rule = self._name_rule()
        if not any(rule.separator and rule.separator in str(name) for name in names):
            return [str(name) for name in names]
        known = {rule.key(name): name for name in reversed([rule.control, *self.perturbation_names])}
        repeated = [name for name in names if rule.repeats(name) and rule.clean(name) != rule.control]
        if repeated:
            first = repeated[0]
            say(f"{first!r} is read as {rule.clean(first)!r}: a part counts once, and a double dose needs a name of its own.")
        exact = set(known.values())
        return [str(name) if name in exact else known.setdefault(rule.key(name), rule.clean(name)) for name in names]

    def _user_vectors(self) -> pd.DataFrame | None:
        if self.added_vectors_ is not None:
            return self.added_vectors_
        state = self.registry_["field_registries"].get(REGISTRY.EMBEDDING, {}).get("state_registry", {})
        return vectors_from_state(state)

    def predictor(self, context: str | None = None) -> Predictor:
        """What answers all questions about the screen, or about one context: screen, space and generator in one.

        Parameters
        ----------
        context
            One of :attr:`contexts`; None for the screen as a whole.

        Returns
        -------
        Predictor
            Of the model as it is. After it was trained again, or places perturbations in another way, ask for a new one.

        Raises
        ------
        RuntimeError
            If a stage is not trained.
        ValueError
            If the model has no such context.

        Examples
        --------
        >>> predictor = model.predictor()
        >>> predictor.space.strategy_of(predictor.screen.names[0])
        'measured'
        """
        if context is not None:
            context = self._known_context(context)
        self._require_diffusion()
        if context not in self._predictors:
            if context is None:
                self._predictors[None] = self._predictor_of(self._screen())
            else:
                screens = {name: Screen.from_dict(values) for name, values in (self.context_screens_ or {}).items()}
                self._predictors |= self._context_predictors(screens, self._screen().left_out)
        return self._predictors[context]

    def _known_context(self, context: str | None) -> str:
        if not self.contexts:
            msg = f"`context` must be set up (`context_key` in `setup_anndata` or `setup_mudata`) first, got {context!r}."
            raise ValueError(msg)
        context = context_name(context)
        return known_word("context", None if context is None else str(context), self.contexts)

    def _space(self) -> PerturbationSpace:
        return self.predictor().space

    def _forget_predictors(self) -> None:
        """Whatever was derived from embeddings: spaces, predictions of references, folds. Kept predictors answer no more."""
        self._predictors = {}
        self._revision += 1
        self.cross_fit_ = None

    def _predictor_of(
        self, screen: Screen, context: str | None = None, left_out: LeftOutSpaces | None = None, axes: EffectSpace | None = None
    ) -> Predictor:
        left_out = left_out or self._left_out_spaces(screen)
        space = fit_space(
            screen.names,
            screen.observed,
            screen.genes,
            self.module.n_embedding,
            left_out.ranking(),
            self._user_vectors(),
            screen.separator,
            places_anything=self.strategy == "mean",
            n_axes=screen.n_axes,
            axes=axes,
        )
        track = progress("Generating")
        generator = Generator(VAEDecoder(self.module), self.module.diffusion, screen, self._told(context), track)
        retrained = () if context is not None else self._retrained(screen)
        own = {name: OwnTable(table, self._name_rule()) for name, table in self._brought(context).items()}
        return Predictor(screen, space, left_out, generator, own, retrained, self._revision, lambda: self._revision)

    def _brought(self, context: str | None) -> dict[str, pd.DataFrame]:
        """Tables of other models' predictions: those of a context, where there are contexts."""
        brought = self.own_predictors_ or {}
        if not any(isinstance(table, dict) for table in brought.values()):
            return brought
        return {} if context is None else {name: tables[context] for name, tables in brought.items()}

    def _context_predictors(self, screens: dict[str, Screen], left_out: LeftOut | None) -> dict[str | None, Predictor]:
        """Their spaces share the principal components of all contexts' effects, and gene space without each fold."""
        effect = np.concatenate([screen.observed.effect for screen in screens.values()])
        n_known = [int(screen.observed.has_variance.sum()) for screen in screens.values()]
        noises = [screen.observed.mean_noise() for screen in screens.values()]
        noise = np.average(noises, axis=0, weights=np.maximum(n_known, 1))
        joint = [name for screen in screens.values() for name in screen.names], effect
        axes = fit_effect_space(effect, noise, self.module.n_embedding)
        predictors: dict[str | None, Predictor] = {}
        for name, own in screens.items():
            screen = replace(own, left_out=left_out)
            predictors[name] = self._predictor_of(screen, name, self._left_out_spaces(screen, joint), axes)
        return predictors

    def _left_out_spaces(self, screen: Screen, joint: tuple[Sequence[str], np.ndarray] | None = None) -> LeftOutSpaces:
        """Their axes are those of the screen, or of the names and effects that ``joint`` has."""
        left_out = screen.left_out or one_gene_space(screen.names, screen.observed, screen.vectors)
        return LeftOutSpaces(screen, self.module.n_embedding, left_out, self._user_vectors(), self.strategy, joint)

    def _retrained(self, screen: Screen) -> tuple[Retrained, ...]:
        """Folds whose diffusion was retrained, if any."""
        if self.cross_fit_ is None:
            return ()
        folds = self.cross_fit_["folds"]
        return tuple(
            Retrained(
                self._fold_diffusion(stored), self._fold_space(screen, stored), tuple(np.flatnonzero(folds == fold).tolist())
            )
            for fold, stored in enumerate(self.cross_fit_["spaces"])
            if len(stored["kept"])
        )

    def _fold_diffusion(self, stored: dict) -> LatentDiffusion:
        diffusion = self.module.new_diffusion()
        diffusion.load_state_dict({name: torch.as_tensor(value) for name, value in stored["weights"].items()})
        return diffusion.eval()

    def _fold_space(self, screen: Screen, stored: dict) -> PerturbationSpace:
        kept, noise = stored["kept"], stored.get("noise")
        observed = screen.observed.subset(kept)
        return fit_space(
            [screen.names[i] for i in kept],
            observed,
            GeneSpace(screen.genes.names, stored["vectors"]),
            self.module.n_embedding,
            stored["ranking"],
            self._user_vectors(),
            screen.separator,
            places_anything=self.strategy == "mean",
            axes=None if noise is None else fit_effect_space(observed.effect, noise, self.module.n_embedding),
        )

    def _told(self, context: str | None = None) -> Conditions:
        """How the network is told of a perturbation in a context, or in none."""
        number = None if context is None else self.contexts.index(context)
        return Conditions(self.module.n_embedding, self.module.n_context, number)

    def _conditions(self, placed: Iterable[tuple[PerturbationSpace, Conditions]]) -> tuple[Tensor, Tensor]:
        """Conditions (codes x contexts, width) of the registered codes, which run slowest, and control's without a context.

        Codes that a space did not measure get control's.
        """
        state = self.registry_["field_registries"][REGISTRY.PERTURBATION]["state_registry"]
        categories = [str(name) for name in state[PerturbationField.CATEGORICAL_MAPPING_KEY]]
        by_context, placed = [], list(placed)
        for space, told in placed:
            table = np.repeat(space.control[None], len(categories), axis=0)
            measured = [i for i, name in enumerate(categories) if space.is_measured(name)]
            table[measured] = space.embed([categories[i] for i in measured])
            by_context.append(told.of(table))
        origin = self._told().of(placed[0][0].control[None])[0]
        return torch.stack(by_context, dim=1).flatten(0, 1), origin
