"""What an encoder costs up to each of its layers: parameters, multiply-adds and time."""
