"""What a model is really worth: plain functions from predictions and prices to a verdict."""
