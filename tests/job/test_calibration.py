import numpy as np

from dbdiffusion.job._calibration import calibration_lines, check_calibration, draw_calibration


def test_both_checks_are_told_and_drawn(trained, tmp_path):
    checked = check_calibration(trained, "embedding", seed=0)
    text = "\n".join(calibration_lines(checked, lambda table: table.to_string()))
    assert "coverage" in text
    assert f"{checked.null.table['below_0.05'].mean():.1%}" in text
    assert [file for file, _ in draw_calibration(checked, tmp_path)] == ["calibration.png"]
    assert (tmp_path / "calibration.png").stat().st_size > 10_000
    plain = checked.to_dict()
    assert plain["why_not"] == []
    assert np.isfinite(plain["unseen"][0]["coverage"])


def test_a_screen_too_small_gives_the_reason(trained, tmp_path, monkeypatch):
    def refuse(**_):
        raise ValueError("too small a screen")

    monkeypatch.setattr(trained, "calibration", refuse)
    monkeypatch.setattr(trained, "null_calibration", refuse)
    checked = check_calibration(trained, "embedding", seed=0)
    assert checked.unseen is None
    assert calibration_lines(checked, str)[2:4] == ["Not checked: too small a screen"] * 2
    assert draw_calibration(checked, tmp_path) == []
