from dbdiffusion.embedding._strategies import not_placed, too_few


def test_a_name_that_nothing_places_is_told_both_ways_out():
    error = not_placed("gata1", ["MYC"], ["GATA1", "SPI1"], [])
    assert isinstance(error, KeyError)
    assert all(word in str(error) for word in ("'gata1'", "GATA1", "embedding_key", "add_perturbations", "measured genes"))


def test_too_few_to_learn_from_is_counted():
    error = too_few("ridge", 1, 2)
    assert isinstance(error, ValueError)
    assert all(word in str(error) for word in ("'ridge'", "at least 2", "got 1", "'mean'"))


def test_all_that_nothing_places_are_told_at_once():
    error = not_placed("a", ["MYC"], [], [], [f"b{i}" for i in range(7)])
    assert "The same holds of 'b0', 'b1', 'b2', 'b3', 'b4' and 2 more." in str(error)
