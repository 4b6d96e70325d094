"""Sizes that the kernels fix, for the launchers: a test compares each with the kernels' text."""

BLOCK = 256  # threads of every block
TILE = 64  # rows of either side of a product, tile.cuh, and of one side, assign.cu
ROWS = 32  # of a list that a warp multiplies at a time, fragments.cuh
STEP = 32  # components at a time, fragments.cuh
DEPTH = 256  # components of a tile in shared memory at a time, fragments.cuh
# of shared memory beside the tile, center_tile.cuh
TILE_BYTES = 8 * 256 * 12 + 64 * 148 + 1024 * 8 + 16
GROUP = 8  # lanes that share a row, canonical.cuh
CHUNK = 128  # rows of a list that a block walks at a time, scan.cuh
SCALE_BYTES = 12 * BLOCK  # of shared memory that a query's norm and reach are summed in, scan.cuh
QUERIES = 8  # of one block, build_lut.cu
DIGIT_BITS = 8  # of one sorting pass: 256 DIGITS, group.cu
BYTES_PER_PLACE = 24  # of a selection: two entries of key and id, select.cuh
MAX_DIM = 1 << 14  # components that MAX_HALVINGS leave room for, canonical.cuh


def filter_bytes(tile: int) -> int:
    """Of shared memory beside the tiles, which have so many queries: items.cuh."""
    return 164 * tile + 64
