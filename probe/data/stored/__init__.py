"""Audio that is no file of its own: addresses, tar archives, Parquet and Arrow tables, object stores."""
