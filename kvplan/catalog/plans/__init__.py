"""Plans that were saved, and what is handed over of them."""
