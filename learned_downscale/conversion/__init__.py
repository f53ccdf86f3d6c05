"""Files and folders of images -> files and folders of thumbnails: what `convert` runs."""
