"""The networks that are trained: TRIS's two stages and the segmentors compared with it."""
