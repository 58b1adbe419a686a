from slipway_fetching import kept_models


def test_a_model_has_one_place_however_its_folder_is_written(tmp_path):
    assert kept_models.place("s3://b/m/", tmp_path) == kept_models.place("s3://b/m", tmp_path)
    assert kept_models.place("s3://b/m", tmp_path) != kept_models.place("gs://b/m", tmp_path)
