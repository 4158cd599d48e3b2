"""From float32 flow to the bytes of a JPEG or PNG, and back."""
