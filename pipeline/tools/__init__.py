"""What the commands beside the stages do: scoring, upscaling, test sets, baselines, experiments, inspection."""
