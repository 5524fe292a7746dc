import numpy as np

from dbdiffusion.job._calibration import Checked, calibration_lines, check_calibration, draw_calibration


def test_both_checks_are_told_and_drawn(trained, tmp_path):
    checked = check_calibration(trained, "embedding", seed=0)
    text = "\n".join(calibration_lines({None: checked}, lambda table: table.to_string()))
    assert "coverage" in text
    assert f"{checked.null.table['below_0.05'].mean():.1%}" in text
    assert [file for file, _ in draw_calibration({None: checked}, tmp_path)] == ["calibration.png"]
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
    assert calibration_lines({None: checked}, str) == ["Not checked: too small a screen"] * 2
    assert draw_calibration({None: checked}, tmp_path) == []


def test_contexts_are_stacked_in_tables_and_in_rows_of_the_plot(trained, tmp_path):
    import matplotlib.image

    checked = check_calibration(trained, "embedding", seed=0)
    nothing = Checked(None, None, ("too few",))
    text = "\n".join(calibration_lines({"a": checked, "b": checked, "c": nothing}, lambda table: table.to_string()))
    assert text.count("Every measured perturbation") == 1
    assert "**b.** Control cells" in text
    assert "Not checked in c: too few" in text
    sizes = []
    for parts in ({None: checked}, {"a": checked, "b": checked, "c": nothing}):
        draw_calibration(parts, tmp_path)
        sizes.append(matplotlib.image.imread(tmp_path / "calibration.png").shape[:2])
    assert sizes[1] == (2 * sizes[0][0], sizes[0][1])
