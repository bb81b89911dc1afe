"""A trained model on one real case, as the pictures and equations that a reader of the paper wants to see."""
