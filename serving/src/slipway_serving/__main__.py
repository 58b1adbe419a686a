"""`python -m slipway_serving`: the same as `slipway-server`."""

from slipway_serving.main import app

if __name__ == "__main__":
    app(prog_name="slipway-server")
