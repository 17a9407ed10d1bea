"""Everything on Kaggle. Only `download`, `submit` and `train --on kaggle` import kagglehub and kagglesdk."""
