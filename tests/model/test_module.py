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
        inside = trainable & {"diffusion", "folds"}
        assert bool(inside) == (stage == "diffusion")
        assert bool(trainable - inside) == (stage == "vae")
        assert not any(p.requires_grad for d in m.diffusions for p in d.averaged.parameters())


def test_state_dict_carries_statistics_and_folds():
    m, other = module(), module()
    with torch.no_grad():
        m.diffusion.mean.fill_(3.0)
        m.folds[1].scale.fill_(2.0)
    other.load_state_dict(m.state_dict())
    assert torch.equal(other.diffusion.mean, m.diffusion.mean)
    assert torch.equal(other.folds[1].scale, m.folds[1].scale)
