"""What networks still recognise in thumbnails."""
