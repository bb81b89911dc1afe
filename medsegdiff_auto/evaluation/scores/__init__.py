"""The scores, a file each; :data:`medsegdiff_auto.tables.SCORES` lists them."""
