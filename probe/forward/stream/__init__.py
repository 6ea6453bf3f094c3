"""What a packed pass is made of: operators on the frames of many sequences in one stream."""
