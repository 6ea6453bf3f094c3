"""Here is what is read before an encoder sees anything: manifests, audio files, transcripts."""
