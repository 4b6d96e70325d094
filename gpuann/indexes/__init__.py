"""The kinds of index: parameters, the index, build and search of each.

What they have in common (files, updates, other searches) joins them in the public modules of the
same names.
"""
