"""What compression costs in quality: published scores, and the loss they make likely."""
