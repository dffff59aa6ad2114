"""Super-resolution methods: what the trainer and the evaluator know, one file per method."""
