"""What talks to Kaggle. Nothing here is imported but by the commands that need the network: `download`, `submit`."""
