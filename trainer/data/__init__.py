"""From a corpus and lists of videos to clips and batches."""
