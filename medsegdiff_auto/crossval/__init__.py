"""Cross-validation and its comparison, from planning to report, as jobs that the folders say are done or not."""
