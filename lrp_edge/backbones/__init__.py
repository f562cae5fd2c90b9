"""Feature extractors of known networks: cut at a stage, run at a smaller stride, started pretrained."""
