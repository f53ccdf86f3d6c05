"""How well networks recognise the thumbnails of photos: `verify`, its results and its report."""
