"""Work on a Dask cluster, whose workers come, go and die. Loads Dask only when a cluster is asked for."""
