"""All that needs torch: networks, data set, training loop parts, the folder of a trained model, inference."""
