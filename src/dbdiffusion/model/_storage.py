"""How a model leaves memory: files, weights alone, the hub, copies."""

from __future__ import annotations

from dbdiffusion.model._copies import CopyingMixin
from dbdiffusion.model._hub import HubMixin
from dbdiffusion.model._saving import SavingMixin
from dbdiffusion.model._weights import WeightsMixin


class Storage(CopyingMixin, SavingMixin, WeightsMixin, HubMixin):
    """``save``, ``load``, ``export_weights``, ``load_weights``, ``hub_model``, copies."""
