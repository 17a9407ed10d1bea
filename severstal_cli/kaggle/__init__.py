"""All that has to do with Kaggle; kagglehub and kagglesdk are imported by `download` and `submit` alone."""
