"""The folder to which nnU-Net's variable ``nnUNet_extTrainer`` points, so that its own commands find our trainer."""
