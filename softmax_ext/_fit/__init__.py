"""What estimators share: checks of data and options, mini-batches, scaled features, observers, prediction."""
