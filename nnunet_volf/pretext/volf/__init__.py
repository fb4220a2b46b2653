"""Volume Fusion: two crops are mixed by a map of coefficients, and the network finds the coefficient of each voxel."""
