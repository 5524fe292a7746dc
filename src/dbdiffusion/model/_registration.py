"""What a model knows before it is trained: its cells, where they come in, and what perturbations are called."""

from __future__ import annotations

from dbdiffusion.model._doors import DoorMixin
from dbdiffusion.model._minified import MinifiedMixin
from dbdiffusion.model._perturbations import PerturbationMixin
from dbdiffusion.model._pretrained import PretrainedMixin
from dbdiffusion.model._query import QueryMixin
from dbdiffusion.model._rna import RnaMixin
from dbdiffusion.model._setup import SetupMixin
from dbdiffusion.model._target_cells import TargetCellsMixin
from dbdiffusion.model._targets import TargetsMixin


class Registration(
    SetupMixin,
    RnaMixin,
    DoorMixin,
    MinifiedMixin,
    PretrainedMixin,
    QueryMixin,
    PerturbationMixin,
    TargetCellsMixin,
    TargetsMixin,
):
    """Set-up, doors of cells, names."""
