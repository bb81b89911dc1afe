"""What is wrong with datasets and images, all findings at once."""
