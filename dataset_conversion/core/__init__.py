"""What every converter shares: reading, checking, writing, folds by patient, provenance and the report."""
