import torch

from dbdiffusion.model import DBDiffusionVAE


def module():
    return DBDiffusionVAE(n_embedding=3, n_diffusion_hidden=8, n_diffusion_blocks=1, n_folds=2, n_input=11, n_latent=5)


def test_vae_stays_in_eval_while_a_denoiser_trains():
    m = module()
    m.set_stage("diffusion")
    m.train()
    assert not m.z_encoder.training
    assert not m.decoder.training
    assert m.diffusion.training
    m.set_stage("vae")
    m.train()
    assert m.z_encoder.training


def test_gradients_reach_only_the_stage():
    m = module()
    for stage in ("vae", "diffusion"):
        m.set_stage(stage)
        trainable = {name.split(".")[0] for name, p in m.named_parameters() if p.requires_grad}
        inside = trainable & {"diffusion"}
        assert bool(inside) == (stage == "diffusion")
        assert bool(trainable - inside) == (stage == "vae")
        assert not any(p.requires_grad for p in m.diffusion.averaged.parameters())


def test_state_dict_carries_statistics():
    m, other = module(), module()
    with torch.no_grad():
        m.diffusion.mean.fill_(3.0)
    other.load_state_dict(m.state_dict())
    assert torch.equal(other.diffusion.mean, m.diffusion.mean)


def test_a_new_diffusion_is_no_part_of_the_module():
    m = module()
    before = set(m.state_dict())
    new = m.new_diffusion()
    assert set(m.state_dict()) == before
    assert {name: value.shape for name, value in new.state_dict().items()} == {
        name: value.shape for name, value in m.diffusion.state_dict().items()
    }
    assert not any(p.requires_grad for p in new.averaged.parameters())
    assert all(p.requires_grad for p in new.denoiser.parameters())


def test_weights_of_folds_of_earlier_versions_are_laid_aside():
    m, other = module(), module()
    before = {f"folds.{i}.{name}": value + i for i in range(2) for name, value in m.diffusion.state_dict().items()}
    other.load_state_dict({**m.state_dict(), **before})
    assert other.folds_of_before.keys() == before.keys()
    assert other.state_dict().keys() == m.state_dict().keys()
