"""What is known of nnU-Net's inside: :mod:`~medsegdiff_auto.nnunet.contract` has the list and the version."""
