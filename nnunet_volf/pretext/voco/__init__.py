"""VoCo (Volume Contrast): where in a region does a crop lie? Told by how alike it is to the crops of a grid.

`geometry` says where crops lie and how they overlap, `sizes` which grid suits a plan, `views` how crops are shown,
`labels` what is asked for, `head` and `variants` what the network gives, `loss` and `scoring` how good that is.
"""
