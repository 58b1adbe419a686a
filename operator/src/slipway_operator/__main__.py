"""`python -m slipway_operator`: the same as `slipway-operator`."""

from slipway_operator.main import main

if __name__ == "__main__":
    main()
