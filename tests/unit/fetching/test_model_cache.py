from slipway_fetching import model_cache


def test_a_model_has_one_place_however_its_folder_is_written(tmp_path):
    assert model_cache.place("s3://b/m/", tmp_path) == model_cache.place("s3://b/m", tmp_path)
    assert model_cache.place("s3://b/m", tmp_path) != model_cache.place("gs://b/m", tmp_path)
