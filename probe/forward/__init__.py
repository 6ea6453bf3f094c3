"""A forward pass: from the input of an encoder to the frames of each layer, and their pooling."""
