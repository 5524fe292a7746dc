from scvi.model import SCVI

from dbdiffusion import DBDiffusion
from dbdiffusion.model._registration import Registration


def test_a_model_has_few_bases_and_each_knows_how_to_set_up_before_scvi():
    assert len(DBDiffusion.__bases__) <= 5
    assert DBDiffusion.__bases__[-1] is SCVI
    for name in ("setup_anndata", "setup_mudata", "check_targets", "target_cells", "add_perturbations"):
        assert getattr(Registration, name) is not None
        assert name not in SCVI.__dict__ or getattr(DBDiffusion, name) is not SCVI.__dict__[name]
