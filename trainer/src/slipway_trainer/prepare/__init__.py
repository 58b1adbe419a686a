"""The step `prepare`, from top to bottom in `prepare.py`: all data is checked, compared and tokenised once."""
