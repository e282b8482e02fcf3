"""What batch sizes that follow the noise scale along training gain over fixed ones, predicted and measured."""
