"""The decoders, a file each; :data:`medsegdiff_auto.tables.DECODERS` lists them."""
