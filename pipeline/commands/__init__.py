"""The commands of `spasemsr` as typed functions, one file per panel of `--help`; what they do is imported inside."""
