"""Indexes in parts: on several devices, in a folder, streamed through a device; behind `shards` and
`streamed`.
"""
