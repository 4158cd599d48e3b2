"""From video files and folders of frames to RGB frames."""
