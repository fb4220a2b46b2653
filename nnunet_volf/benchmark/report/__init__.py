"""The page on a benchmark: table, charts, pictures and conditions."""
