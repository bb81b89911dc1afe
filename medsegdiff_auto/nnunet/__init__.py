"""What is known of nnU-Net's inside."""
